#include "merge/relaxation/expert_importance.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

constexpr const char *kFused = "model.layers.0.mlp.experts.gate_up_proj",
                     *kFusedDown = "model.layers.0.mlp.experts.down_proj";

/// Two experts of a layer with two channels.
Architecture mixture(const char* type = "qwen3_moe") {
    const std::vector<TensorInfo> tensors{{"model.layers.0.mlp.gate.weight", Dtype::F32, {2, 2}, 0, {}},
                                          {kFused, Dtype::F32, {2, 6, 2}, 0, {}}};
    return Architecture(nlohmann::ordered_json{{"model_type", type},
                                               {"num_hidden_layers", 1},
                                               {"hidden_size", 2},
                                               {"num_experts", 2},
                                               {"num_experts_per_tok", 1}},
                        tensors);
}

/// Statistics of fused experts, a row each.
ModuleStatistics fused(const std::vector<float>& values, std::vector<std::int64_t> tokens) {
    return {.meanAbs = values,
            .rms = values,
            .maxAbs = values,
            .tokens = tokens[0] + tokens[1],
            .experts = 2,
            .expertTokens = std::move(tokens)};
}

ModuleStatistics plain(const std::vector<float>& values, std::int64_t tokens) {
    return {.meanAbs = values, .rms = values, .maxAbs = values, .tokens = tokens};
}

/// The first expert saw as many tokens as its block's input counts for, the second none.
StatisticsByModule fusedStatistics() {
    return {{"model.layers.0.mlp.gate", plain({4, 2}, 200)},
            {kFused, fused({2, 4, 0, 0}, {100, 0})},
            {kFusedDown, fused({1, 2, 0, 0}, {100, 0})}};
}

std::vector<float> valuesOf(const std::string& tensor, const Shape& shape, const StatisticsByModule& statistics,
                            const AimConfig& aim = {}) {
    return importanceOf(mixture(), tensor, shape, aim, statistics, true)->values;
}

TEST(ExpertImportance, BlendsWhatEntersFromTheBlockWithTheBlocksInput) {
    // (100 [2, 4] + 100 [4, 2]) / 200 = [3, 3], and the block's own [4, 2]; for gate and for up.
    EXPECT_THAT(valuesOf(kFused, {2, 6, 2}, fusedStatistics()), ElementsAre(1, 1, 1, 1, 1, 0.5f, 1, 0.5f));
}

TEST(ExpertImportance, BlendsRootMeanSquaresByTheirSquares) {
    AimConfig aim;
    aim.statistic = Statistic::Rms;
    StatisticsByModule statistics = fusedStatistics();
    statistics[kFused] = fused({7, 1, 0, 0}, {100, 0});
    statistics["model.layers.0.mlp.gate"] = plain({1, 7}, 200);
    // sqrt((49 + 1) / 2) = 5 in both channels.
    EXPECT_THAT(valuesOf(kFused, {2, 6, 2}, statistics, aim),
                ElementsAre(1, 1, 1, 1, FloatEq(1.0f / 7), 1, FloatEq(1.0f / 7), 1));
}

TEST(ExpertImportance, TakesTheMeanOverTokensWithoutARouter) {
    StatisticsByModule statistics = fusedStatistics();
    statistics.erase("model.layers.0.mlp.gate");
    EXPECT_THAT(valuesOf(kFused, {2, 6, 2}, statistics), ElementsAre(0.5f, 1, 0.5f, 1, 0.5f, 1, 0.5f, 1));
}

TEST(ExpertImportance, GivesAnUnseenExpertTheOthersInnerImportance) {
    EXPECT_THAT(valuesOf(kFusedDown, {2, 2, 2}, fusedStatistics()), ElementsAre(0.5f, 1, 0.5f, 1));
    // Without a prior, and so without the block, also for what enters it.
    AimConfig aim;
    aim.expertPriorTokens = 0;
    EXPECT_THAT(valuesOf(kFused, {2, 6, 2}, fusedStatistics(), aim), ElementsAre(0.5f, 1, 0.5f, 1, 0.5f, 1, 0.5f, 1));
}

TEST(ExpertImportance, IsTheSameForExpertsWithTensorsOfTheirOwn) {
    StatisticsByModule separate{{"model.layers.0.mlp.gate", plain({4, 2}, 200)}};
    for (const char* name : {"gate_proj", "up_proj"}) {
        separate[std::string("model.layers.0.mlp.experts.0.") + name] = plain({2, 4}, 100);
        separate[std::string("model.layers.0.mlp.experts.1.") + name] = plain({0, 0}, 0);
    }
    separate["model.layers.0.mlp.experts.0.down_proj"] = plain({1, 2}, 100);
    separate["model.layers.0.mlp.experts.1.down_proj"] = plain({0, 0}, 0);

    EXPECT_THAT(valuesOf("model.layers.0.mlp.experts.0.up_proj.weight", {3, 2}, separate), ElementsAre(1, 1));
    EXPECT_THAT(valuesOf("model.layers.0.mlp.experts.1.gate_proj.weight", {3, 2}, separate), ElementsAre(1, 0.5f));
    EXPECT_THAT(valuesOf("model.layers.0.mlp.experts.1.down_proj.weight", {2, 2}, separate), ElementsAre(0.5f, 1));
}

TEST(ExpertImportance, RefusesStatisticsOfAnotherForm) {
    EXPECT_THAT(messageOf<InputError>([] { valuesOf(kFused, {3, 6, 2}, fusedStatistics()); }), HasSubstr("have 2 experts"));
    StatisticsByModule statistics = fusedStatistics();
    statistics[kFused] = plain({1, 2}, 5);
    EXPECT_THAT(messageOf<InputError>([&] { valuesOf(kFused, {2, 6, 2}, statistics); }), HasSubstr("those of one matrix"));
    statistics = fusedStatistics();
    statistics[kFused].inputAxis = -2;
    EXPECT_THAT(messageOf<InputError>([&] { valuesOf(kFused, {2, 6, 2}, statistics); }), HasSubstr("axis -2 from the end"));
}

}  // namespace
}  // namespace aimerge
