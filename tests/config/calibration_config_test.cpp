// The `calibration` of experts: at the top of the file, in a model's entry, or the aim section's.

#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// @param model beyond the listed ones: a base that is not listed
std::string corpusOf(const MergeConfig& config, std::size_t model) {
    const std::vector<ModelEntry>& listed = config.slices.at(0).sources;
    const CalibrationConfig* calibration = expertCalibration(config, model < listed.size() ? &listed[model] : nullptr);
    return calibration ? calibration->corpus : "none";
}

TEST(ExpertCalibration, IsTheModelsOwnElseTheFilesElseThatOfAim) {
    const std::string models = "merge_method: fisher\nmodels: [{model: a}, {model: b, calibration: {corpus: own.txt}}]\n";
    const std::string file = "calibration: {corpus: file.txt}\n";
    const std::string aim = "base_model: c\naim: {omega: 0.4, calibration: {corpus: aim.txt}}\n";
    const MergeConfig all = parsed(models + file + aim), onlyAim = parsed(models + aim), neither = parsed(models);

    EXPECT_EQ(corpusOf(all, 0), "file.txt");
    EXPECT_EQ(corpusOf(all, 1), "own.txt");
    EXPECT_EQ(corpusOf(all, 2), "file.txt") << "a base that is not listed";
    EXPECT_EQ(corpusOf(onlyAim, 0), "aim.txt");
    EXPECT_EQ(corpusOf(onlyAim, 1), "own.txt");
    EXPECT_EQ(corpusOf(neither, 0), "none");
    EXPECT_EQ(corpusOf(neither, 1), "own.txt");
}

TEST(ExpertCalibration, MayStandInASourceOfASlice) {
    const MergeConfig config = parsed(
        "merge_method: fisher\nslices: [{sources: [{model: a, layer_range: [0, 2], calibration: {corpus: own.txt}}]}]\n");

    EXPECT_EQ(corpusOf(config, 0), "own.txt");
}

TEST(ExpertCalibration, IsNotThatOfAnAimSectionWithAGivenLog) {
    EXPECT_EQ(corpusOf(parsed(kThreeLines + "aim: {omega: 1, statistics: log.h5}\n"), 0), "none");
}

TEST(ExpertCalibration, HasTheKeysAndDefaultsOfAims) {
    const MergeConfig config = parsed(kThreeLines + "calibration: {token_ids: ids.npy, dtype: float32, micro_batch: 3}\n");

    EXPECT_EQ(config.calibration->tokenIds, "ids.npy");
    EXPECT_EQ(config.calibration->dtype, Dtype::F32);
    EXPECT_EQ(config.calibration->microBatch, 3);
    EXPECT_EQ(config.calibration->sequences, 256);
    EXPECT_EQ(config.calibration->sequenceLength, 2048);
}

TEST(ExpertCalibration, MistakesAreFoundWhereTheyStand) {
    EXPECT_THAT([] { parsed(kThreeLines + "calibration: {sequences: 3}\n"); },
                ThrowsMessage<UsageError>(HasSubstr("calibration needs a text 'corpus' or ready 'token_ids'")));
    EXPECT_THAT([] { parsed(kThreeLines + "calibration: {corpse: a.txt}\n"); },
                ThrowsMessage<UsageError>(HasSubstr("merge.yaml:4:15: unknown key 'corpse'")));
    EXPECT_THAT([] { parsed("merge_method: fisher\nmodels: [{model: a, calibration: {corpus: a, token_ids: b}}]\n"); },
                ThrowsMessage<UsageError>(HasSubstr("'token_ids' and 'corpus' exclude each other")));
}

TEST(ExpertCalibration, IsNotSequential) {
    const std::string text = "merge_method: fisher\nmodels: [{model: a}]\ncalibration: {corpus: x, sequential: true}\n";
    EXPECT_THAT([&] { parsed(text); }, ThrowsMessage<UsageError>(HasSubstr("'sequential' is for aim.calibration")));
}

}  // namespace
}  // namespace aimerge
