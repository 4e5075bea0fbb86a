#include "aimerge/job/held_merge.h"

#include "support/temp_folder.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/distributed/world.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kModels = fs::path(AIMERGE_TEST_DATA) / "goldens/family_f32";

ConfigText config(const std::string& further = "") {
    return {fmt::format("merge_method: ties\nbase_model: {0}/base\nmodels:\n"
                        "  - {{model: {0}/expert_a, parameters: {{weight: 0.5}}}}\n"
                        "  - {{model: {0}/expert_b, parameters: {{weight: 0.5}}}}\n"
                        "parameters: {{density: 0.5}}\n{1}",
                        kModels.string(), further),
            "held.yaml", false, ""};
}

JobOptions quietly() {
    JobOptions options;
    options.threads = 1;
    options.show = [](std::string_view) {};
    return options;
}

/// All tensors one behind the other.
std::string bytesOf(HeldMerge& held) {
    std::string bytes;
    for (const OutputTensor& tensor : held.tensors())
        bytes.append(reinterpret_cast<const char*>(held.tensor(tensor.name).get()), tensor.bytes());
    return bytes;
}

/// What the folder of a merge has of these tensors.
std::string bytesOf(const fs::path& folder, const std::vector<OutputTensor>& tensors) {
    const Checkpoint written = Checkpoint::open(folder.string());
    std::string bytes;
    for (const OutputTensor& tensor : tensors) {
        std::string own(tensor.bytes(), '\0');
        written.read(*written.find(tensor.name), 0, std::as_writable_bytes(std::span(own)));
        bytes += own;
    }
    return bytes;
}

TEST(HeldMerge, HasTheBytesThatAreWritten) {
    const TempFolder folder;
    World world = World::alone();
    HeldMerge held(world, quietly(), config());
    EXPECT_EQ(held.mergedTensors(), 0u);
    const std::string merged = bytesOf(held);
    held.save(folder / "saved", false);
    JobOptions options = quietly();
    options.out = folder / "merged";
    merge(world, options, config());
    EXPECT_EQ(merged, bytesOf(folder / "merged", held.tensors()));
    EXPECT_EQ(readTextFile(folder / "saved/model.safetensors"), readTextFile(folder / "merged/model.safetensors"));
}

TEST(HeldMerge, OtherParametersGiveWhatAMergeWithThemGives) {
    const TempFolder folder;
    World world = World::alone();
    HeldMerge held(world, quietly(), config());
    const std::string before = bytesOf(held);
    const std::string name = held.tensors().back().name;
    const auto kept = held.tensor(name);
    const std::string copy(reinterpret_cast<const char*>(kept.get()), held.tensors().back().bytes());

    held.set({"models.0.parameters.weight=0.8", "parameters.density=0.2"});
    JobOptions options = quietly();
    options.out = folder / "merged";
    options.overrides = {"models.0.parameters.weight=0.8", "parameters.density=0.2"};
    merge(world, options, config());
    EXPECT_EQ(bytesOf(held), bytesOf(folder / "merged", held.tensors()));
    EXPECT_NE(bytesOf(held), before);
    EXPECT_EQ(std::memcmp(kept.get(), copy.data(), copy.size()), 0);  // what was given out stays

    held.set({});
    EXPECT_EQ(bytesOf(held), before);
}

TEST(HeldMerge, MergesAgainOnlyWhatChanges) {
    World world = World::alone();
    HeldMerge held(world, quietly(), config());
    const std::size_t tensors = held.tensors().size();
    bytesOf(held);
    bytesOf(held);
    EXPECT_EQ(held.mergedTensors(), tensors);
    held.set({"parameters.density=[{filter: self_attn, value: 0.2}, {value: 0.5}]"});
    bytesOf(held);
    const auto isChanged = [](const OutputTensor& tensor) { return tensor.name.find("self_attn") != std::string::npos; };
    const auto changed = static_cast<std::size_t>(std::ranges::count_if(held.tensors(), isChanged));
    ASSERT_GT(changed, 0u);
    ASSERT_LT(changed, tensors);
    EXPECT_EQ(held.mergedTensors(), tensors + changed);
}

TEST(HeldMerge, StaysAsItWasWhenOtherParametersAreWrong) {
    World world = World::alone();
    HeldMerge held(world, quietly(), config());
    const std::string before = bytesOf(held);
    EXPECT_THROW(held.set({"parameters.density=2"}), UsageError);
    EXPECT_EQ(bytesOf(held), before);
    EXPECT_THROW(held.tensor("nowhere"), UsageError);
}

TEST(HeldMerge, RefusesWhatNeedsFiles) {
    World world = World::alone();
    const std::string several = "aim: {omega: [0.2, 0.4], calibration: {corpus: nowhere.txt}}\n";
    try {
        const HeldMerge held(world, quietly(), config(several));
        FAIL();
    } catch (const UsageError& error) {
        EXPECT_THAT(error.what(), HasSubstr("a merge in memory has one omega, found 2"));
    }
}

}  // namespace
}  // namespace aimerge
