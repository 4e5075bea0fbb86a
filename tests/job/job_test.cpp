#include "aimerge/job/job.h"

#include "support/temp_folder.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/config_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const fs::path kFamily = fs::path(AIMERGE_TEST_DATA) / "goldens/family_f32";

ConfigText ties(double density) {
    return {
        fmt::format("merge_method: ties\nbase_model: {0}/base\nmodels:\n  - model: {0}/expert_a\n  - model: {0}/expert_b\n"
                    "parameters: {{weight: 0.5, density: {1}}}\n",
                    kFamily.string(), density),
        "ties.yaml", false, ""};
}

/// What a job says, instead of standard error.
struct Heard {
    std::string shown;
    std::vector<ProgressState> progress;
};

JobOptions optionsFor(const fs::path& out, Heard& heard) {
    JobOptions options;
    options.out = out.string();
    options.threads = 1;
    options.show = [&heard](std::string_view text) { heard.shown += text; };
    options.progress = ProgressListener([&heard](const ProgressState& state) { heard.progress.push_back(state); });
    return options;
}

MergeResult mergeAlone(const JobOptions& options, const ConfigText& config) {
    World world = World::alone();
    return merge(world, options, config);
}

std::string weightsIn(const fs::path& folder) {
    return readTextFile(folder / "model.safetensors");
}

TEST(Job, AMergeIsAValueAndSaysNothingByItself) {
    const TempFolder folder;
    Heard heard;
    testing::internal::CaptureStderr();
    const MergeResult result = mergeAlone(optionsFor(folder / "out", heard), ties(0.5));
    EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::Not(HasSubstr("tensors")));
    ASSERT_EQ(result.checkpoints.size(), 1u);
    EXPECT_EQ(result.checkpoints.front().folder, folder / "out");
    EXPECT_EQ(result.checkpoints.front().omega, std::nullopt);
    EXPECT_TRUE(fs::is_regular_file(folder / "out/model.safetensors"));
    EXPECT_THAT(heard.shown, HasSubstr("rank"));
    ASSERT_FALSE(heard.progress.empty());
    EXPECT_EQ(heard.progress.back().phase, "merge");
    EXPECT_EQ(heard.progress.back().done, heard.progress.back().total);
}

TEST(Job, ErrorsHaveTheirKind) {
    const TempFolder folder;
    Heard heard;
    const JobOptions options = optionsFor(folder / "out", heard);
    ConfigText unknown = ties(0.5);
    unknown.text.replace(unknown.text.find("ties"), 4, "tias");
    EXPECT_THROW(mergeAlone(options, unknown), UsageError);
    ConfigText missing = ties(0.5);
    missing.text.replace(missing.text.find("expert_a"), 8, "expert_x");
    EXPECT_THROW(mergeAlone(options, missing), InputError);
    EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Job, TwoThreadsRunTwoJobs) {
    const TempFolder folder;
    Heard alone, first, second;
    mergeAlone(optionsFor(folder / "half", alone), ties(0.5));
    mergeAlone(optionsFor(folder / "fifth", alone), ties(0.2));
    std::thread one([&] { mergeAlone(optionsFor(folder / "a", first), ties(0.5)); });
    std::thread two([&] { mergeAlone(optionsFor(folder / "b", second), ties(0.2)); });
    one.join();
    two.join();
    EXPECT_EQ(weightsIn(folder / "a"), weightsIn(folder / "half"));
    EXPECT_EQ(weightsIn(folder / "b"), weightsIn(folder / "fifth"));
    EXPECT_NE(weightsIn(folder / "a"), weightsIn(folder / "b"));
}

TEST(Job, AStopEndsTheJobOfItsThreadAloneAndTheSameCallGoesOn) {
    const TempFolder folder;
    Heard heard;
    const JobOptions options = optionsFor(folder / "out", heard);
    std::thread stopped([&] {
        StopRequest stop;
        stop.ask();
        EXPECT_THROW(mergeAlone(options, ties(0.5)), Interrupted);
    });
    stopped.join();
    EXPECT_FALSE(fs::exists(folder / "out"));
    EXPECT_TRUE(fs::exists(folder / "out.partial"));
    mergeAlone(options, ties(0.5));
    EXPECT_TRUE(fs::exists(folder / "out/model.safetensors"));
    EXPECT_FALSE(fs::exists(folder / "out.partial"));
}

TEST(Job, APlanIsJsonAndATable) {
    Heard heard;
    const TempFolder folder;
    World world = World::alone();
    const auto plans = plan(world, optionsFor(folder / "out", heard), ties(0.5), {.ranks = 2, .hardware = ""});
    ASSERT_EQ(plans.size(), 1u);
    EXPECT_EQ(plans.front().json["ranks"].size(), 2u);
    EXPECT_TRUE(plans.front().json.contains("storage"));
    EXPECT_THAT(plans.front().table, HasSubstr("models"));
}

TEST(Job, AConfigThatWasMadeIsShown) {
    const TempFolder folder;
    Heard heard;
    JobOptions options = optionsFor(folder / "out", heard);
    options.dryRun = true;
    MethodArguments arguments;
    arguments.method = "ties";
    arguments.base = kFamily / "base";
    arguments.models = {kFamily / "expert_a", kFamily / "expert_b"};
    arguments.weight = {"0.5"};
    const std::string text = methodConfigText(arguments, {}, {});
    EXPECT_TRUE(mergeAlone(options, {text, "here", true, ""}).checkpoints.empty());
    EXPECT_THAT(heard.shown, HasSubstr("merge_method: ties"));
    EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Job, DescribesACheckpoint) {
    const nlohmann::ordered_json description = describe(kFamily / "base");
    EXPECT_EQ(description["checkpoint"], (kFamily / "base").string());
    EXPECT_EQ(description["structure"]["model_type"], "llama");
    EXPECT_FALSE(description.contains("statistics"));
}

}  // namespace
}  // namespace aimerge
