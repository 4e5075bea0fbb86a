#include "aimerge/safetensors/weight_files.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kIndex = "model.safetensors.index.json";

TEST(WeightFiles, AreTheSingleFile) {
    const TempFolder folder;
    writeBytes(folder / "model.safetensors", "");
    writeBytes(folder / "other.safetensors", "");

    EXPECT_THAT(findWeightFiles(folder.path()).paths, ElementsAre(folder / "model.safetensors"));
}

TEST(WeightFiles, AreTheShardsOfTheIndexByName) {
    const TempFolder folder;
    for (const char* name : {"b.safetensors", "a.safetensors", "stray.safetensors"}) writeBytes(folder / name, "");
    writeBytes(
        folder / kIndex,
        R"({"metadata":{"total_size":12},"weight_map":{"x":"b.safetensors","y":"a.safetensors","z":"b.safetensors"}})");

    const WeightFiles files = findWeightFiles(folder.path());

    EXPECT_THAT(files.paths, ElementsAre(folder / "a.safetensors", folder / "b.safetensors"));
    EXPECT_EQ(files.weightMap.at("z"), "b.safetensors");
    EXPECT_EQ(files.totalSize, 12);
}

TEST(WeightFiles, AreTheOnlyFileOfAnotherName) {
    const TempFolder folder;
    writeBytes(folder / "weights.safetensors", "");

    EXPECT_THAT(findWeightFiles(folder.path()).paths, ElementsAre(folder / "weights.safetensors"));
}

TEST(WeightFiles, AreThoseThatTransformersWouldLoad) {
    const TempFolder folder;
    const LogCapture log;
    const auto found = [&] { return findWeightFiles(folder.path()).paths; };
    EXPECT_FALSE(hasModelWeights(folder.path()));
    for (const char* name : {"a.bin", "b.bin", "other.safetensors", "training_args.bin"}) writeBytes(folder / name, "");
    EXPECT_FALSE(hasModelWeights(folder.path()));
    writeBytes(folder / "pytorch_model.bin.index.json", R"({"weight_map":{"x":"b.bin","y":"a.bin"}})");
    EXPECT_THAT(found(), ElementsAre(folder / "a.bin", folder / "b.bin"));
    writeBytes(folder / "pytorch_model.bin", "");
    EXPECT_THAT(found(), ElementsAre(folder / "pytorch_model.bin"));
    writeBytes(folder / kIndex, R"({"weight_map":{"x":"other.safetensors"}})");
    EXPECT_THAT(found(), ElementsAre(folder / "other.safetensors"));
    EXPECT_TRUE(hasModelWeights(folder.path()));
}

TEST(WeightFiles, WarnOfAnIndexBesideTheSingleFile) {
    const TempFolder folder;
    writeBytes(folder / "model.safetensors", "");
    writeBytes(folder / kIndex, "{}");
    const LogCapture log;

    EXPECT_THAT(findWeightFiles(folder.path()).paths, ElementsAre(folder / "model.safetensors"));

    EXPECT_THAT(log.text(), HasSubstr("warning: " + folder.path().string() + ": has both"));
}

TEST(WeightFiles, AreRefusedWithTheWayOut) {
    const struct {
        std::vector<std::string> files;
        std::string message;
    } rows[] = {
        {{}, "has no weights, expected model.safetensors"},
        {{"pytorch_model-00001-of-00002.bin"},
         "has PyTorch files (pytorch_model-00001-of-00002.bin), but none of a name that loaders look for, expected "
         "pytorch_model.bin, or shards with pytorch_model.bin.index.json"},
        {{"consolidated.00.pth"}, "has PyTorch files (consolidated.00.pth)"},
        {{"model.pt"}, "has PyTorch files (model.pt)"},
        {{"model-Q4.gguf"}, "has GGUF weights (model-Q4.gguf)"},
        {{"a.safetensors", "b.safetensors"},
         "has 2 safetensors files, a.safetensors and others, but no model.safetensors.index.json"},
    };
    for (const auto& row : rows) {
        const TempFolder folder;
        for (const std::string& name : row.files) writeBytes(folder / name, "");

        EXPECT_THAT(messageOf<InputError>([&] { findWeightFiles(folder.path()); }),
                    AllOf(HasSubstr(folder.path().string() + ": "), HasSubstr(row.message)));
    }
}

TEST(WeightFiles, AreRefusedWithABadIndex) {
    const struct {
        std::string index, message;
    } rows[] = {
        {"", "not valid JSON"},
        {"[]", "holds array, expected a JSON object"},
        {"{}", "has no weight_map"},
        {R"({"weight_map":{}})", "has no weight_map"},
        {R"({"weight_map":[]})", "has no weight_map"},
        {R"({"weight_map":{"x":1}})", "tensor x is mapped to number, expected a file name"},
        {R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors"}})", "the key \"x\" is written twice"},
        {R"({"weight_map":{"x":"../a.safetensors"}})",
         "mapped to \"../a.safetensors\", expected the name of a .safetensors file"},
        {R"({"weight_map":{"x":"/etc/a.safetensors"}})", "mapped to \"/etc/a.safetensors\""},
        {R"({"weight_map":{"x":"sub/a.safetensors"}})", "mapped to \"sub/a.safetensors\""},
        {R"({"weight_map":{"x":".."}})", "mapped to \"..\""},
        {R"({"weight_map":{"x":""}})", "mapped to \"\""},
        {R"({"weight_map":{"x":"a.bin"}})", "mapped to \"a.bin\""},
        {R"({"weight_map":{"x":".safetensors"}})", "mapped to \".safetensors\""},
        {R"({"weight_map":{"x":"absent.safetensors"}})", "absent.safetensors: the shard is missing"},
        {R"({"metadata":{"total_size":"12"},"weight_map":{"x":"a.safetensors"}})",
         "metadata.total_size is string, expected a number"},
    };
    for (const auto& row : rows) {
        const TempFolder folder;
        writeBytes(folder / "a.safetensors", "");
        writeBytes(folder / kIndex, row.index);

        EXPECT_THAT(messageOf<InputError>([&] { findWeightFiles(folder.path()); }), HasSubstr(row.message)) << row.index;
    }
}

}  // namespace
}  // namespace aimerge
