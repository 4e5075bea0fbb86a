#include "merge/relaxation/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::FloatNear;

constexpr const char* kModule = "model.layers.1.mlp.up_proj";

ModuleStatistics channels(std::vector<float> values) {
    return {.meanAbs = values, .rms = values, .maxAbs = values, .tokens = 1};
}

/// Two layers and the head.
StatisticsByModule someStatistics() {
    return {{"model.layers.0.mlp.up_proj", channels({1, 40})},
            {kModule, channels({2, 8, 4, 0})},
            {"model.layers.1.mlp.down_proj", channels({16, 1})},
            {"lm_head", channels({80})}};
}

Architecture twoLayers() {
    const std::vector<TensorInfo> tensors{{"model.layers.0.mlp.up_proj.weight", Dtype::F32, {3, 2}, 0, {}},
                                          {"model.layers.1.mlp.up_proj.weight", Dtype::F32, {3, 4}, 0, {}}};
    return Architecture(nlohmann::ordered_json{{"model_type", "llama"}, {"num_hidden_layers", 2}}, tensors);
}

std::vector<float> importance(const AimConfig& aim, const StatisticsByModule& statistics = someStatistics()) {
    return importanceOfModule(twoLayers(), kModule, statistics.at(kModule).values(aim.statistic), statistics, aim);
}

TEST(Importance, IsThePapersByDefault) {
    EXPECT_EQ(importance({}), (std::vector<float>{0.25f, 1, 0.5f, 0}));
}

TEST(Importance, IsZeroWhereNothingIsActive) {
    for (const auto normalisation : {Normalisation::Max, Normalisation::Quantile}) {
        AimConfig aim;
        aim.normalisation = normalisation;
        aim.quantile = 0.5;
        EXPECT_EQ(importance(aim, {{kModule, channels({0, 0})}}), (std::vector<float>{0, 0}));
    }
}

TEST(Importance, ByTheLargestOfTheLayer) {
    AimConfig aim;
    aim.normalisation = Normalisation::Layer;
    EXPECT_EQ(importance(aim), (std::vector<float>{0.125f, 0.5f, 0.25f, 0}));
}

TEST(Importance, ByTheLargestOfAll) {
    AimConfig aim;
    aim.normalisation = Normalisation::Global;
    EXPECT_EQ(importance(aim), (std::vector<float>{0.025f, 0.1f, 0.05f, 0}));
}

TEST(Importance, ByAQuantileWhatIsAboveItIsOne) {
    AimConfig aim;
    aim.normalisation = Normalisation::Quantile;
    aim.quantile = 0.5;  // numpy.quantile([2, 8, 4, 0], 0.5) = 3
    EXPECT_THAT(importance(aim), ElementsAre(FloatEq(2.0f / 3), 1, 1, 0));
    aim.quantile = 0.75;  // 5
    EXPECT_THAT(importance(aim), ElementsAre(FloatEq(0.4f), 1, FloatEq(0.8f), 0));
    aim.quantile = 1;
    EXPECT_EQ(importance(aim), importance({}));
}

TEST(Importance, Power) {
    AimConfig aim;
    aim.shape = RelaxationShape::Power;
    aim.shapeValue = 2;
    EXPECT_EQ(importance(aim), (std::vector<float>{0.0625f, 1, 0.25f, 0}));
}

TEST(Importance, SigmoidKeepsTheEndsAndTheMiddle) {
    AimConfig aim;
    aim.shape = RelaxationShape::Sigmoid;
    aim.shapeValue = 8;
    const auto curve = [](double x) { return 1 / (1 + std::exp(-8 * (x - 0.5))); };
    const double quarter = (curve(0.25) - curve(0)) / (curve(1) - curve(0));
    EXPECT_THAT(importance(aim), ElementsAre(FloatNear(static_cast<float>(quarter), 1e-6f), 1, FloatNear(0.5f, 1e-6f), 0));
}

TEST(Importance, TopHoldsBackAShareOfTheChannels) {
    AimConfig aim;
    aim.shape = RelaxationShape::Top;
    aim.shapeValue = 0.5;
    EXPECT_EQ(importance(aim), (std::vector<float>{0, 1, 1, 0}));
    aim.shapeValue = 0.01;  // at least one
    EXPECT_EQ(importance(aim), (std::vector<float>{0, 1, 0, 0}));
    aim.shapeValue = 1;  // but none that is not active at all
    EXPECT_EQ(importance(aim), (std::vector<float>{1, 1, 1, 0}));
}

TEST(Importance, OfEqualChannelsTheFirstAreTheTop) {
    AimConfig aim;
    aim.shape = RelaxationShape::Top;
    aim.shapeValue = 0.5;
    EXPECT_EQ(importance(aim, {{kModule, channels({3, 3, 3, 3})}}), (std::vector<float>{1, 1, 0, 0}));
}

TEST(Importance, ShuffledHasTheSameValuesElsewhere) {
    std::vector<float> values(64);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    const StatisticsByModule statistics{{kModule, channels(values)}};
    AimConfig aim;
    const std::vector<float> plain = importance(aim, statistics);
    aim.control = AimControl::Shuffled;
    std::vector<float> shuffled = importance(aim, statistics);
    EXPECT_NE(shuffled, plain);
    EXPECT_EQ(shuffled, importance(aim, statistics));
    aim.calibration.seed = 43;
    EXPECT_NE(importance(aim, statistics), shuffled);
    std::ranges::sort(shuffled);
    EXPECT_EQ(shuffled, plain);
}

TEST(Importance, MeanHoldsEveryChannelBackAlike) {
    AimConfig aim;
    aim.control = AimControl::Mean;
    EXPECT_EQ(importance(aim), std::vector<float>(4, 0.4375f));
}

}  // namespace
}  // namespace aimerge
