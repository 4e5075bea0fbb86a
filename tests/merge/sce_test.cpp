#include "merge/methods/sce.h"

#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

ResolvedParameters withTopk(double topk) {
    auto values = parameters(sceMethod(), {});
    setShared(sceMethod(), values, "select_topk", topk);
    return values;
}

TEST(Sce, WeightsByMeanSquareAndDropsTheMinoritySign) {
    // Mean squares 1 and 3, so 1/4 and 3/4. Elements 1 and 3: one expert alone, whose weight cancels.
    EXPECT_THAT(combined(sceMethod(), withTopk(1), {0, 0, 0, 0}, {{1, 1, 1, 1}, {2, -2, 2, 0}}),
                ElementsAre(1.75f, -2, 1.75f, 1));
}

TEST(Sce, WeightsSmallChangesAlike) {
    const float u = 0x1p-12f;  // mean squares 4 u^2 = 2.4e-7 in all
    EXPECT_THAT(combined(sceMethod(), withTopk(1), {0, 0, 0, 0}, {{u, u, u, u}, {2 * u, -2 * u, 2 * u, 0}}),
                ElementsAre(1.5f * u, -2 * u, 1.5f * u, u));
}

TEST(Sce, WeightsWhatIsSelectedOfSmallChangesAlike) {
    // Element 2 is selected, with squares 4 u^2 and u^2; those of all elements add up to 13 u^2.
    const auto third = [](float u) {
        return combined(sceMethod(), withTopk(0.5), {0, 0, 0}, {{2 * u, u / 8, 2 * u}, {2 * u, 0, u}})[2];
    };
    const float allSmall = 4e-4f, selectedSmall = 6e-4f, large = 9e-4f;  // 13/3 u^2 and 5/3 u^2 below and above 1e-6
    EXPECT_FLOAT_EQ(third(allSmall), 1.5f * allSmall);
    EXPECT_FLOAT_EQ(third(selectedSmall), 1.5f * selectedSmall);
    EXPECT_FLOAT_EQ(third(large), 1.8f * large);
}

TEST(Sce, SelectsTheLargestVariancesAndOfEqualOnesTheLowerIndex) {
    // Variances 0 16 16 0 1: three are not zero.
    const Floats base(5);
    const std::vector<Floats> inputs{{0, 0, 4, 1, 0}, {0, 8, -4, 1, 2}};
    EXPECT_THAT(combined(sceMethod(), withTopk(0.5), base, inputs), ElementsAre(0, 8, 0, 0, 0));
    EXPECT_THAT(combined(sceMethod(), withTopk(0.7), base, inputs), ElementsAre(0, 8, 4, 0, 0));
}

TEST(Sce, WithNothingSelectedHasTheBasesBits) {
    const Floats base{-0.0f, 1, 2};
    EXPECT_EQ(bitsOf(combined(sceMethod(), withTopk(0), base, {{1, 2, 3}, {3, 2, 1}})), bitsOf(base));
    EXPECT_EQ(bitsOf(combined(sceMethod(), withTopk(0.3), base, {{1, 2, 3}, {1, 2, 3}})), bitsOf(base)) << "no variance";
}

TEST(Sce, EqualChangesOfAnySizeDoNotVary) {
    // A third of 3 x 2^k, rounded, is not 2^k.
    const Floats base(4), equal{1, 0x1p-7f, 3, 5};
    EXPECT_EQ(bitsOf(combined(sceMethod(), withTopk(0.9), base, {equal, equal, equal})), bitsOf(base));
}

TEST(Sce, CountsAsVaryingWhatFloat32SaysVaries) {
    const Floats base(3);
    const float seen = 1e-19f, vanishing = 1e-30f;  // variances 2.5e-39 and, in float32, 0
    EXPECT_THAT(combined(sceMethod(), withTopk(0.5), base, {{0, 0, 1}, {0, seen, 3}}),
                ElementsAre(0, 0, testing::FloatEq(2.8f)));
    EXPECT_THAT(combined(sceMethod(), withTopk(0.5), base, {{0, 0, 1}, {0, vanishing, 3}}), ElementsAre(0, 0, 0));
}

TEST(Sce, SelectionHasTheSameBitsForAnyThreadsAndInstructions) {
    const InstructionSet best = bestInstructionSet();
    const Floats base = roundedToBf16(normalValues(200003, 1, 0.02f));  // many equal variances
    std::vector<Floats> inputs;
    for (std::uint64_t i = 2; i < 5; ++i) {
        Floats expert = normalValues(base.size(), i, 0.002f);
        for (std::size_t e = 0; e < expert.size(); ++e) expert[e] += base[e];
        inputs.push_back(roundedToBf16(std::move(expert)));
    }
    const auto expected = bitsOf(combined(sceMethod(), withTopk(0.3), base, inputs));
    const auto moved = [&] {
        std::size_t count = 0;
        for (std::size_t e = 0; e < base.size(); ++e) count += expected[e] != bitsOfFloat(base[e]);
        return count;
    }();

    EXPECT_NEAR(static_cast<double>(moved), 0.3 * 200003, 0.3 * 200003 * 0.02);
    EXPECT_EQ(bitsOf(combined(sceMethod(), withTopk(0.3), base, inputs, 5)), expected);
    for (const InstructionSet set : {InstructionSet::Baseline, InstructionSet::Avx2}) {
        limitInstructionSet(set);
        EXPECT_EQ(bitsOf(combined(sceMethod(), withTopk(0.3), base, inputs, 2)), expected) << static_cast<int>(set);
    }
    limitInstructionSet(best);
}

}  // namespace
}  // namespace aimerge
