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
    return calibration ? calibration->inputName() : "none";
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
    const MergeConfig config = parsed(kThreeLines + "calibration: {corpus: texts.txt, dtype: float32, micro_batch: 3}\n");

    EXPECT_EQ(config.calibration->inputName(), "texts.txt");
    EXPECT_EQ(config.calibration->dtype, Dtype::F32);
    EXPECT_EQ(config.calibration->microBatch, 3);
    EXPECT_EQ(config.calibration->sequences, 256);
    EXPECT_EQ(config.calibration->sequenceLength, 2048);
}

std::vector<CorpusSource> sourcesOf(const std::string& corpus) {
    return parsed(kThreeLines + "calibration: {corpus: " + corpus + "}\n").calibration->corpus;
}

TEST(CalibrationCorpus, IsAPathOrAListWithOrWithoutShares) {
    EXPECT_EQ(sourcesOf("'data/*.parquet'").at(0).path, "data/*.parquet");
    EXPECT_EQ(sourcesOf("[a, {path: b}]").at(1).path, "b");
    EXPECT_EQ(sourcesOf("[a, {path: b}]").at(1).share, 0);
    EXPECT_EQ(sourcesOf("[{path: a, share: 0.75}, {path: b, share: 3}]").at(1).share, 3);
    EXPECT_EQ(parsed(kThreeLines + "calibration: {corpus: [a, {path: b}]}\n").calibration->inputName(), "a, b");
}

TEST(CalibrationCorpus, MistakesAreNamed) {
    for (const auto& row : std::vector<std::pair<std::string, std::string>>{
             {"[]", "calibration.corpus is an empty list"},
             {"[a, '']", "calibration.corpus[1] must be a text"},
             {"[[a]]", "calibration.corpus[0] must be a text"},
             {"{share: 1}", "calibration.corpus needs a 'path'"},
             {"[{path: a, weight: 1}]", "unknown key 'weight' in calibration.corpus[0]"},
             {"[{path: a, share: 0}]", "calibration.corpus[0].share must be above 0"},
             {"[{path: a, share: -1}]", "calibration.corpus[0].share must be"},
             {"[{path: a, share: 1}, b]", "1 of 2 sources of calibration.corpus have a 'share'"}})
        EXPECT_THAT([&] { sourcesOf(row.first); }, ThrowsMessage<UsageError>(HasSubstr(row.second))) << row.first;
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
