#include "aimerge/config/merge_config.h"

#include "aimerge/core/error.h"
#include "config/parsed_config.h"
#include "support/expect_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

AimConfig aimOf(const std::string& section) {
    return *parsed(kThreeLines + "aim: " + section).aim;
}

TEST(AimConfig, HasTheDefaultsOfThePaper) {
    const AimConfig aim = aimOf("{omega: 0.4, calibration: {corpus: pile.jsonl}}");

    EXPECT_THAT(aim.omegas, testing::ElementsAre(0.4));
    EXPECT_FALSE(aim.omegaIsList);
    EXPECT_EQ(aim.statistic, Statistic::MeanAbs);
    EXPECT_EQ(aim.statisticsPath, "");
    EXPECT_EQ(aim.scope, AimScope::Code);
    EXPECT_FALSE(aim.relaxTiedHead);
    EXPECT_FALSE(aim.roundBeforeRelaxing);
    EXPECT_TRUE(aim.hasCalibration);
    EXPECT_EQ(aim.mark.text(), "merge.yaml:4:1");
    EXPECT_EQ(aim.calibration.inputName(), "pile.jsonl");
    EXPECT_TRUE(aim.calibration.textKeys.empty());
    EXPECT_EQ(aim.calibration.sequences, 256);
    EXPECT_EQ(aim.calibration.sequenceLength, 2048);
    EXPECT_EQ(aim.calibration.seed, 42u);
    EXPECT_TRUE(aim.calibration.shuffle);
    EXPECT_EQ(aim.calibration.packing, Packing::Stream);
    EXPECT_EQ(aim.calibration.dtype, Dtype::BF16);
    EXPECT_EQ(aim.calibration.microBatch, 1);
    EXPECT_EQ(aim.calibration.mark.text(), "merge.yaml:4:19");
}

TEST(AimConfig, ImportancesAreThePapersUnlessSaidOtherwise) {
    const AimConfig plain = aimOf("{omega: 0.4, calibration: {corpus: pile.jsonl}}");
    EXPECT_EQ(plain.normalisation, Normalisation::Max);
    EXPECT_EQ(plain.shape, RelaxationShape::Linear);
    EXPECT_EQ(plain.control, AimControl::None);

    const AimConfig other =
        aimOf("{omega: 0.4, statistics: a.h5, normalisation: \"quantile:0.99\", shape: \"power:2\", control: shuffled}");
    EXPECT_EQ(other.normalisation, Normalisation::Quantile);
    EXPECT_EQ(other.quantile, 0.99);
    EXPECT_EQ(other.shape, RelaxationShape::Power);
    EXPECT_EQ(other.shapeValue, 2);
    EXPECT_EQ(other.control, AimControl::Shuffled);
    EXPECT_EQ(aimOf("{omega: 0, statistics: a.h5, shape: \"top:0.1\", control: mean}").shape, RelaxationShape::Top);
    EXPECT_EQ(aimOf("{omega: 0, statistics: a.h5, shape: \"sigmoid:8\", normalisation: layer}").shape,
              RelaxationShape::Sigmoid);
}

TEST(AimConfig, ActivationsMayBeTheExperts) {
    EXPECT_EQ(aimOf("{omega: 0, statistics: a.h5}").source, ActivationSource::Base);
    EXPECT_EQ(aimOf("{omega: 0, calibration: {corpus: x}, source: mean}").source, ActivationSource::ExpertsMean);
    const AimConfig aim = aimOf("{omega: 0, calibration: {corpus: x}, source: max, statistic: wanda, control: scale}");
    EXPECT_EQ(aim.source, ActivationSource::ExpertsMax);
    EXPECT_EQ(aim.control, AimControl::Scale);
    EXPECT_TRUE(aim.isPerElement());
    EXPECT_FALSE(aim.usesSensitivity());
}

TEST(AimConfig, ExpertsOneByOneAreHeldBackByChannels) {
    const AimConfig aim = aimOf("{omega: 0, calibration: {corpus: x}, source: experts, control: mean, shape: \"top:0.1\"}");
    EXPECT_TRUE(aim.usesExperts());
    EXPECT_TRUE(aim.relaxesExperts());
    for (const char* other : {"statistic: wanda", "control: scale", "round_before_relaxing: true", "preset: reference-code"})
        EXPECT_THAT(messageOf<UsageError>(
                        [&] { aimOf(std::string("{omega: 0, calibration: {corpus: x}, source: experts, ") + other + "}"); }),
                    testing::HasSubstr("before the merge"));
}

TEST(AimConfig, ReadsEveryKey) {
    const AimConfig aim = aimOf(R"(
  omega: [1, 0.8, 0, "1e-3"]
  statistic: max_abs
  statistics: log.h5
  scope: linear
  relax_tied_head: yes
  round_before_relaxing: true
  calibration:
    corpus: texts.jsonl
    text_key: body
    chat_template: chatml
    sequences: 8
    sequence_length: 16
    seed: 18446744073709551615
    shuffle: no
    packing: lines
    dtype: float32
    micro_batch: 4
)");

    EXPECT_THAT(aim.omegas, testing::ElementsAre(1, 0.8, 0, 1e-3));
    EXPECT_TRUE(aim.omegaIsList);
    EXPECT_FALSE(aim.omegaByTensor);
    EXPECT_EQ(aim.statistic, Statistic::MaxAbs);
    EXPECT_EQ(aim.statisticsPath, "log.h5");
    EXPECT_EQ(aim.scope, AimScope::Linear);
    EXPECT_TRUE(aim.relaxTiedHead);
    EXPECT_TRUE(aim.roundBeforeRelaxing);
    EXPECT_EQ(aim.calibration.inputName(), "texts.jsonl");
    EXPECT_EQ(aim.calibration.textKeys, std::vector<std::string>{"body"});
    EXPECT_EQ(aim.calibration.chatTemplate, "chatml");
    EXPECT_EQ(aim.calibration.sequences, 8);
    EXPECT_EQ(aim.calibration.sequenceLength, 16);
    EXPECT_EQ(aim.calibration.seed, ~std::uint64_t{0});
    EXPECT_FALSE(aim.calibration.shuffle);
    EXPECT_EQ(aim.calibration.packing, Packing::Lines);
    EXPECT_EQ(aim.calibration.dtype, Dtype::F32);
    EXPECT_EQ(aim.calibration.microBatch, 4);
}

TEST(AimConfig, ReadySequencesAreAllOrTheFirst) {
    const auto calibrationOf = [](const std::string& more) {
        return aimOf("{omega: 0.4, calibration: {token_ids: ids.npy" + more + "}}").calibration;
    };
    EXPECT_EQ(calibrationOf("").tokenIds, "ids.npy");
    EXPECT_EQ(calibrationOf("").sequences, 0);
    EXPECT_EQ(calibrationOf("").sequenceLength, 0);
    EXPECT_EQ(calibrationOf(", sequences: 3, sequence_length: 8, shuffle: no").sequences, 3);
    EXPECT_EQ(calibrationOf(", sequences: 3, sequence_length: 8, shuffle: no").sequenceLength, 8);
    for (const std::string key : {"text_key: body", "chat_template: chatml", "packing: lines", "seed: 1", "shuffle: yes"})
        EXPECT_THAT([&] { calibrationOf(", " + key); }, testing::ThrowsMessage<UsageError>(testing::HasSubstr(
                                                            "'" + key.substr(0, key.find(':')) + "' is for a 'corpus'")));
}

TEST(AimConfig, AListOfOneIsStillAList) {
    EXPECT_TRUE(aimOf("{omega: [0.4], statistics: log.h5}").omegaIsList);
}

TEST(AimConfig, StatisticsAloneAreEnough) {
    EXPECT_FALSE(aimOf("{omega: 0.4, statistics: log.h5}").hasCalibration);
    EXPECT_FALSE(aimOf("{omega: 0.4, statistics: log.h5, calibration: {sequences: 3}}").hasCalibration);
}

TEST(AimConfig, ReferenceCodePresetSetsTheReadingOfTheCode) {
    const AimConfig aim = aimOf("{preset: reference-code, omega: 0.4, calibration: {corpus: x}}");

    EXPECT_EQ(aim.preset, "reference-code");
    EXPECT_TRUE(aim.roundBeforeRelaxing);
    EXPECT_TRUE(aim.relaxTiedHead);
    EXPECT_EQ(aim.calibration.packing, Packing::Lines);
    EXPECT_EQ(aim.calibration.sequences, 256);
    EXPECT_EQ(aim.calibration.sequenceLength, 512);
}

TEST(AimConfig, PaperPresetSetsTheReadingOfThePaper) {
    const AimConfig aim = aimOf("{preset: paper, omega: 0.4, calibration: {corpus: x}}");

    EXPECT_FALSE(aim.roundBeforeRelaxing);
    EXPECT_FALSE(aim.relaxTiedHead);
    EXPECT_EQ(aim.calibration.packing, Packing::Stream);
    EXPECT_EQ(aim.calibration.sequences, 256);
    EXPECT_EQ(aim.calibration.sequenceLength, 2048);
}

// The preset stands last here: the order in the file does not matter.
TEST(AimConfig, WrittenKeysOverrideThePreset) {
    const AimConfig aim = aimOf(
        "{omega: 0.4, relax_tied_head: false, "
        "calibration: {corpus: x, sequences: 9, sequence_length: 64, packing: stream}, "
        "preset: reference-code}");

    EXPECT_TRUE(aim.roundBeforeRelaxing);
    EXPECT_FALSE(aim.relaxTiedHead);
    EXPECT_EQ(aim.calibration.packing, Packing::Stream);
    EXPECT_EQ(aim.calibration.sequences, 9);
    EXPECT_EQ(aim.calibration.sequenceLength, 64);
}

TEST(AimConfig, StatisticsHaveTheNamesOfTheLog) {
    EXPECT_EQ(statisticName(Statistic::MeanAbs), "mean_abs");
    EXPECT_EQ(statisticName(Statistic::Rms), "rms");
    EXPECT_EQ(statisticName(Statistic::MaxAbs), "max_abs");
}

TEST(AimConfig, MayGiveTensorsOmegasOfTheirOwn) {
    const AimConfig aim = aimOf("{omega: [{filter: mlp, value: [0.2, 0.8]}, {value: 1}], statistics: a.h5}");
    EXPECT_THAT(aim.omegas, testing::IsEmpty());
    EXPECT_FALSE(aim.omegaIsList);
    EXPECT_EQ(aim.omegaByTensor->number("model.layers.0.mlp.up_proj.weight", 0), 0.2);
    EXPECT_EQ(aim.omegaByTensor->number("model.layers.1.mlp.up_proj.weight", 0.5), 0.5);
    EXPECT_EQ(aim.omegaByTensor->number("model.layers.1.self_attn.q_proj.weight", 0.5), 1);

    const AimConfig overDepth = aimOf("{omega: {value: [0, 1]}, statistics: a.h5}");
    EXPECT_EQ(overDepth.omegaByTensor->number("model.norm.weight", 1), 1);
}

TEST(AimConfig, SequentialCalibrationGoesWithWhatIsKnownLayerByLayer) {
    const AimConfig aim = aimOf("{omega: 0.4, statistic: wanda, calibration: {corpus: x, sequential: true}}");
    EXPECT_TRUE(aim.calibration.sequential);
    EXPECT_FALSE(aimOf("{omega: 0.4, calibration: {corpus: x}}").calibration.sequential);

    for (const auto& [keys, message] : std::vector<std::pair<std::string, std::string>>{
             {"omega: [0.2, 0.4]", "give one omega"},
             {"omega: 0.4, source: max", "use source base"},
             {"omega: 0.4, statistic: sensitivity_channel", "use source base"},
             {"omega: 0.4, normalisation: global", "leave out normalisation global"},
             {"omega: 0.4, relax_tied_head: true", "leave out normalisation global and relax_tied_head"},
             {"omega: 0.4, statistics: a.h5", "leave out aim.statistics"}}) {
        const std::string section = "{" + keys + ", calibration: {corpus: x, sequential: true}}";
        EXPECT_THAT([&] { aimOf(section); }, testing::ThrowsMessage<UsageError>(testing::HasSubstr(message))) << keys;
    }
}

}  // namespace
}  // namespace aimerge
