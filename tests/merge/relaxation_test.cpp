#include "aimerge/merge/relaxation.h"
#include "aimerge/core/error.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Floats relaxed(const Floats& importance, double omega, const Floats& base, const Floats& merged, std::int64_t first = 0,
               DeltaRounding rounding = DeltaRounding::None) {
    Floats out(base.size());
    Relaxation(importance, omega, rounding).apply(first, base, merged, out);
    return out;
}

TEST(Relaxation, HoldsBackTheChangeOnActiveChannels) {
    // Rows of three channels; factors 1 - A/2 = 1, 0.75, 0.5.
    EXPECT_THAT(relaxed({0, 0.5f, 1}, 0.5, {1, 1, 1, 2, 2, 2}, {9, 9, 9, -2, -2, -2}), ElementsAre(9, 7, 5, -2, -1, 0));
}

TEST(Relaxation, CanBeginInTheMiddleOfARow) {
    EXPECT_THAT(relaxed({0, 0.5f, 1}, 0.5, {1, 1, 1, 1}, {9, 9, 9, 9}, 7), ElementsAre(7, 5, 9, 7));
}

TEST(Relaxation, AtOmegaOneIsThePlainMergeBitForBit) {
    const Floats base = normalValues(1000, 1, 1), merged = normalValues(1000, 2, 1), importance(100, 0.7f);
    for (const auto rounding : {DeltaRounding::None, DeltaRounding::Bfloat16}) {
        const Floats plain = rounding == DeltaRounding::None ? merged : roundedToBf16(merged);
        EXPECT_EQ(bitsOf(relaxed(importance, 1, base, merged, 0, rounding)), bitsOf(plain));
    }
}

TEST(Relaxation, OfInactiveChannelsIsThePlainMergeBitForBit) {
    const Floats base = normalValues(1000, 1, 1), merged = normalValues(1000, 2, 1);
    EXPECT_EQ(bitsOf(relaxed(Floats(100), 0.2, base, merged)), bitsOf(merged));
}

TEST(Relaxation, OfTheMostActiveChannelsAtOmegaZeroIsTheBaseBitForBit) {
    Floats base = normalValues(1000, 1, 1);
    base[0] = -0.0f;
    EXPECT_EQ(bitsOf(relaxed(Floats(100, 1), 0, base, normalValues(1000, 2, 1))), bitsOf(base));
}

TEST(Relaxation, RoundsMergedAndDeltaFirstWhenAsked) {
    // merged 1 + 2^-9 rounds to 1 in bf16; minus 2^-9 is 1 - 2^-9, which bf16 (8 bits) rounds to even: 1. Half of it is 0.5.
    const float small = 0x1p-9f;
    EXPECT_THAT(relaxed({0.5f}, 0, {small}, {1 + small}, 0, DeltaRounding::Bfloat16), ElementsAre(small + 0.5f));
    EXPECT_THAT(relaxed({0.5f}, 0, {small}, {1 + small}), ElementsAre(small + 0.5f));
    EXPECT_THAT(relaxed({0.5f}, 0, {1}, {1 + 0x1p-8f}, 0, DeltaRounding::Bfloat16), ElementsAre(1));
    EXPECT_THAT(relaxed({0.5f}, 0, {1}, {1 + 0x1p-8f}), ElementsAre(1 + 0x1p-9f));
}

StatisticsByModule someStatistics() {
    StatisticsByModule statistics;
    for (const char* module :
         {"model.layers.0.self_attn.q_proj", "model.layers.0.input_layernorm", "model.norm", "lm_head", "extra"})
        statistics[module] = {{1, 2, 4}, {2, 2, 4}, {4, 2, 4}, 10};
    return statistics;
}

TEST(ImportanceOf, IsTheStatisticOverItsMaximum) {
    AimConfig aim;
    const auto importance = importanceOf("model.layers.0.self_attn.q_proj.weight", {5, 3}, aim, someStatistics(), false);
    ASSERT_TRUE(importance);
    EXPECT_THAT(*importance, ElementsAre(0.25f, 0.5f, 1));
    aim.statistic = Statistic::MaxAbs;
    EXPECT_THAT(*importanceOf("model.layers.0.self_attn.q_proj.weight", {5, 3}, aim, someStatistics(), false),
                ElementsAre(1, 0.5f, 1));
}

TEST(ImportanceOf, FollowsTheScope) {
    struct Row {
        const char* tensor;
        Shape shape;
        bool code, linear, tiedHead;  // relaxed under AimScope::Code, ::Linear, and Code with relaxTiedHead
    };
    const std::vector<Row> rows{{"model.layers.0.self_attn.q_proj.weight", {5, 3}, true, true, true},
                                {"model.layers.0.self_attn.q_proj.bias", {3}, false, false, false},
                                {"model.layers.0.input_layernorm.weight", {3}, true, false, true},
                                {"model.norm.weight", {3}, true, false, true},
                                {"lm_head.weight", {7, 3}, true, true, true},
                                {"model.embed_tokens.weight", {7, 3}, false, false, true},
                                {"extra.weight", {2, 3}, true, true, true},
                                {"unmeasured.weight", {2, 3}, false, false, false}};
    for (const Row& row : rows) {
        AimConfig aim;
        EXPECT_EQ(importanceOf(row.tensor, row.shape, aim, someStatistics(), false).has_value(), row.code) << row.tensor;
        aim.relaxTiedHead = true;
        EXPECT_EQ(importanceOf(row.tensor, row.shape, aim, someStatistics(), false).has_value(), row.tiedHead) << row.tensor;
        aim = {};
        aim.scope = AimScope::Linear;
        EXPECT_EQ(importanceOf(row.tensor, row.shape, aim, someStatistics(), false).has_value(), row.linear) << row.tensor;
    }
}

TEST(ImportanceOf, LeavesTheEmbeddingAloneWhenTheHeadIsItsOwn) {
    AimConfig aim;
    aim.relaxTiedHead = true;
    EXPECT_FALSE(importanceOf("model.embed_tokens.weight", {7, 3}, aim, someStatistics(), true));
}

TEST(ImportanceOf, RefusesMissingAndMismatchedStatistics) {
    const AimConfig aim;
    try {
        importanceOf("model.layers.0.mlp.up_proj.weight", {5, 3}, aim, someStatistics(), false);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("'model.layers.0.mlp.up_proj'"));
    }
    try {
        importanceOf("lm_head.weight", {5, 4}, aim, someStatistics(), true);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("'lm_head' have 3 channels, lm_head.weight has 4 (shape [5, 4])"));
    }
}

}  // namespace
}  // namespace aimerge
