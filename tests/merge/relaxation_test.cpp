#include "aimerge/merge/relaxation.h"
#include "aimerge/core/error.h"
#include "merge/memory_parameter.h"
#include "support/expect_error.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Floats relaxed(const Floats& importance, double omega, const Floats& base, const Floats& merged, std::int64_t first = 0,
               DeltaRounding rounding = DeltaRounding::None) {
    Floats out(base.size());
    const ChannelLayout layout{.channels = static_cast<std::int64_t>(importance.size()), .matrixElements = 1 << 20};
    Relaxation({importance, layout}, omega, rounding).apply(first, base, merged, out);
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

Architecture oneLayer() {
    const std::vector<TensorInfo> tensors{{"model.embed_tokens.weight", Dtype::F32, {7, 3}, 0, {}},
                                          {"model.layers.0.self_attn.q_proj.weight", Dtype::F32, {5, 3}, 0, {}},
                                          {"model.norm.weight", Dtype::F32, {3}, 0, {}}};
    return Architecture(
        nlohmann::ordered_json{{"model_type", "llama"}, {"num_hidden_layers", 1}, {"vocab_size", 7}, {"hidden_size", 3}},
        tensors);
}

std::optional<ChannelImportance> importanceIn(const std::string& tensor, const Shape& shape, const AimConfig& aim,
                                              bool headIsWritten = false) {
    return importanceOf(oneLayer(), tensor, shape, aim, someStatistics(), headIsWritten);
}

TEST(ImportanceOf, IsTheStatisticOverItsMaximum) {
    AimConfig aim;
    const auto importance = importanceIn("model.layers.0.self_attn.q_proj.weight", {5, 3}, aim);
    ASSERT_TRUE(importance);
    EXPECT_THAT(importance->values, ElementsAre(0.25f, 0.5f, 1));
    EXPECT_TRUE(importance->layout.isPlain());
    aim.statistic = Statistic::MaxAbs;
    EXPECT_THAT(importanceIn("model.layers.0.self_attn.q_proj.weight", {5, 3}, aim)->values, ElementsAre(1, 0.5f, 1));
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
        EXPECT_EQ(importanceIn(row.tensor, row.shape, aim).has_value(), row.code) << row.tensor;
        aim.relaxTiedHead = true;
        EXPECT_EQ(importanceIn(row.tensor, row.shape, aim).has_value(), row.tiedHead) << row.tensor;
        aim = {};
        aim.scope = AimScope::Linear;
        EXPECT_EQ(importanceIn(row.tensor, row.shape, aim).has_value(), row.linear) << row.tensor;
    }
}

TEST(ImportanceOf, LeavesTheEmbeddingAloneWhenTheHeadIsItsOwn) {
    AimConfig aim;
    aim.relaxTiedHead = true;
    EXPECT_FALSE(importanceIn("model.embed_tokens.weight", {7, 3}, aim, true));
}

TEST(RelaxedBy, SaysWhatHasNoStatistic) {
    const AimConfig aim;
    const auto treatment = [&](const char* tensor, const Shape& shape) {
        return relaxedBy(oneLayer(), tensor, shape, aim, someStatistics(), true).treatment;
    };
    EXPECT_EQ(treatment("model.layers.0.self_attn.q_proj.weight", {5, 3}), Treatment::Relaxed);
    EXPECT_EQ(treatment("model.layers.0.mlp.up_proj.weight", {5, 3}), Treatment::Unmeasured);
    EXPECT_EQ(treatment("model.layers.0.self_attn.q_proj.bias", {5}), Treatment::OfAnotherKind);
}

TEST(ImportanceOf, RefusesMismatchedStatistics) {
    EXPECT_THAT(messageOf<InputError>([] {
                    importanceIn("lm_head.weight", {5, 4}, {}, true);
                }),
                HasSubstr("'lm_head' have 3 channels, lm_head.weight has 4 (shape [5, 4])"));
}

TEST(Relaxation, GoesAlongTheAxisThatIsTheInput) {
    // [in, out] = [2, 3]: the factors 1 and 0.5 are those of the rows.
    Floats out(6);
    Relaxation({{0, 1}, ChannelLayout::of({2, 3}, -2)}, 0.5, DeltaRounding::None).apply(0, Floats(6, 1), Floats(6, 9), out);
    EXPECT_THAT(out, ElementsAre(9, 9, 9, 5, 5, 5));
    Floats middle(3);
    Relaxation({{0, 1}, ChannelLayout::of({2, 3}, -2)}, 0.5, DeltaRounding::None)
        .apply(2, Floats(3, 1), Floats(3, 9), middle);
    EXPECT_THAT(middle, ElementsAre(9, 5, 5));
}

TEST(Relaxation, HasChannelsOfItsOwnForEveryMatrix) {
    // Two matrices [1, 2].
    ChannelLayout layout = ChannelLayout::of({1, 2}, -1);
    layout.matrices = 2;
    Floats out(4);
    Relaxation({{0, 1, 1, 0}, layout}, 0.5, DeltaRounding::None).apply(0, Floats(4, 1), Floats(4, 9), out);
    EXPECT_THAT(out, ElementsAre(9, 5, 5, 9));
    // Two matrices [in, out] = [2, 2], from the second row of the first on.
    layout = ChannelLayout::of({2, 2}, -2);
    layout.matrices = 2;
    Floats part(4);
    Relaxation({{0, 1, 0.5f, 0}, layout}, 0.5, DeltaRounding::None).apply(2, Floats(4, 1), Floats(4, 9), part);
    EXPECT_THAT(part, ElementsAre(5, 5, 7, 7));
}

}  // namespace
}  // namespace aimerge
