#include "aimerge/config/merge_config.h"

#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace aimerge {
namespace {

constexpr const char* kComplete = R"(# two experts
merge_method: ties
base_model: ./base/model
models:
  - model: org/math
    parameters:
      weight: 0.5
      density: [0.1, 0.9]
  - model: ./code
    parameters:
      weight:
        - filter: self_attn
          value: [1, 0.5]
        - value: 0.25
  - model: ./base/model
parameters:
  normalize: true
  lambda: {filter: mlp, value: "1e-5"}
  int8_mask: []
dtype: float32
out_dtype: bfloat16
chat_template: auto
)";

TEST(MergeConfig, ReadsWhatMergekitReads) {
    const MergeConfig config = parsed(kComplete);

    EXPECT_EQ(config.file, "merge.yaml");
    EXPECT_EQ(config.method, "ties");
    EXPECT_EQ(config.methodMark.text(), "merge.yaml:2:15");
    EXPECT_EQ(config.baseModel, "./base/model");
    EXPECT_EQ(config.baseModelMark.text(), "merge.yaml:3:13");
    EXPECT_EQ(config.dtype, Dtype::F32);
    EXPECT_EQ(config.outDtype, Dtype::BF16);
    EXPECT_EQ(config.chatTemplate, "auto");
    EXPECT_EQ(config.vocabulary.source, VocabularySource::None);
    EXPECT_FALSE(config.aim.has_value());

    ASSERT_EQ(config.slices.at(0).sources.size(), 3u);
    EXPECT_EQ(config.slices[0].sources[0].model, "org/math");
    EXPECT_EQ(config.slices[0].sources[0].mark.text(), "merge.yaml:5:12");
    EXPECT_EQ(config.slices[0].sources[0].parameters.at("density").conditions.at(0).values.at(1).text, "0.9");
    EXPECT_EQ(config.slices[0].sources[0].parameters.at("density").conditions.at(0).values.at(1).mark.text(),
              "merge.yaml:8:22");
    const ParameterSetting& weight = config.slices[0].sources[1].parameters.at("weight");
    ASSERT_EQ(weight.conditions.size(), 2u);
    EXPECT_EQ(weight.conditions[0].filter, "self_attn");
    EXPECT_EQ(weight.conditions[0].values.size(), 2u);
    EXPECT_EQ(weight.conditions[1].filter, "");
    EXPECT_TRUE(config.slices[0].sources[2].parameters.empty());

    EXPECT_EQ(config.parameters.at("normalize").conditions.at(0).values.at(0).text, "true");
    EXPECT_EQ(config.parameters.at("lambda").conditions.at(0).filter, "mlp");
    EXPECT_TRUE(config.parameters.at("int8_mask").conditions.empty());
}

TEST(MergeConfig, KeepsTheTextOfTheFile) {
    EXPECT_EQ(parsed(kComplete).text, kComplete);
}

TEST(MergeConfig, KeysWithoutValueAreAbsent) {
    const MergeConfig config =
        parsed(kThreeLines + "dtype:\nout_dtype: null\ntokenizer_source: ~\nparameters:\nchat_template:\n");

    EXPECT_EQ(config.dtype, std::nullopt);
    EXPECT_EQ(config.outDtype, std::nullopt);
    EXPECT_EQ(config.vocabulary.source, VocabularySource::None);
    EXPECT_TRUE(config.parameters.empty());
}

TEST(MergeConfig, ACalibrationTakesASweepsConfig) {
    const MergeConfig config = parsed(
        "base_model: base\nexperts: {a: x}\ncombinations: all\nmethods: [ties]\nomega: [1.0]\n"
        "aim: {calibration: {corpus: text.txt}}\nevaluation: {suites: []}\noutput: {directory: out}\n",
        {}, ConfigUse::Calibrate);

    EXPECT_EQ(config.baseModel, "base");
    EXPECT_THROW(parsed("base_model: base\nexperts: {a: x}\n"), UsageError);
}

TEST(MergeConfig, CalibrateNeedsNoModels) {
    const MergeConfig config =
        parsed("base_model: base\naim: {calibration: {corpus: text.txt}}\n", {}, ConfigUse::Calibrate);

    EXPECT_EQ(config.baseModel, "base");
    EXPECT_TRUE(config.slices.empty());
    EXPECT_TRUE(config.aim->omegas.empty());
}

TEST(MergeConfig, CalibrateTakesAFileMadeForMergingToo) {
    const MergeConfig config =
        parsed(kThreeLines + "aim: {omega: 0.4, calibration: {corpus: text.txt}}\n", {}, ConfigUse::Calibrate);

    EXPECT_EQ(config.slices.at(0).sources.size(), 2u);
    EXPECT_THAT(config.aim->omegas, testing::ElementsAre(0.4));
}

TEST(MergeConfig, LoadsAFileAndNamesItInErrors) {
    std::string path = (std::filesystem::temp_directory_path() / "aimerge-config-XXXXXX").string();
    const int descriptor = ::mkstemp(path.data());
    ASSERT_GE(descriptor, 0);
    ::close(descriptor);
    std::ofstream(path) << kThreeLines << "dtipe: x\n";

    EXPECT_THAT([&] { parseMergeConfig(readMergeConfigText(path), path, {}, ConfigUse::Merge); },
                testing::ThrowsMessage<UsageError>(testing::StartsWith(path + ":4:1: unknown key 'dtipe'")));
    std::ofstream(path) << kThreeLines;
    EXPECT_EQ(parseMergeConfig(readMergeConfigText(path), path, {}, ConfigUse::Merge).file, path);
    std::filesystem::remove(path);
}

TEST(MergeConfig, AMissingFileIsAnInputError) {
    EXPECT_THAT([] { readMergeConfigText("/nonexistent/merge.yaml"); },
                testing::ThrowsMessage<InputError>("/nonexistent/merge.yaml: the file does not exist"));
}

}  // namespace
}  // namespace aimerge
