#include "aimerge/core/error.h"
#include "merge/memory_parameter.h"
#include "merge/methods/linear.h"
#include "merge/methods/task_arithmetic.h"
#include "merge/methods/ties.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Inputs are small multiples of powers of two, so that every result is exact.

TEST(Linear, IsTheWeightedMean) {
    const auto values = parameters(linearMethod(), {1, 3});
    EXPECT_THAT(combined(linearMethod(), values, {}, {{4, -8, 0}, {8, 8, 2}}), ElementsAre(7, 4, 1.5f));
}

TEST(Linear, IsTheWeightedSumWithoutNormalize) {
    auto values = parameters(linearMethod(), {1, -0.5});
    setShared(linearMethod(), values, "normalize", 0);
    EXPECT_THAT(combined(linearMethod(), values, {}, {{4, -8}, {8, 8}}), ElementsAre(0, -12));
}

TEST(Linear, OfEqualInputsIsExactlyThatInput) {
    const Floats same = normalValues(4096, 1, 0.02f);
    const auto values = parameters(linearMethod(), {0.1, 0.7, 0.3});
    EXPECT_EQ(bitsOf(combined(linearMethod(), values, {}, {same, same, same})), bitsOf(same));
}

TEST(Linear, RefusesWeightsThatAddUpToZero) {
    const auto problem = linearMethod().check(parameters(linearMethod(), {0.1, 0.2, -0.3}));

    ASSERT_TRUE(problem);
    EXPECT_EQ(problem->parameter, parameterIndex(linearMethod(), "weight"));
    EXPECT_THAT(problem->text, HasSubstr("add up to 0"));
}

TEST(Linear, AcceptsWeightsThatAddUpToZeroWithoutNormalize) {
    auto values = parameters(linearMethod(), {1, -1});
    setShared(linearMethod(), values, "normalize", 0);
    EXPECT_FALSE(linearMethod().check(values));
    EXPECT_THAT(combined(linearMethod(), values, {}, {{4}, {1}}), ElementsAre(3));
}

TEST(TaskArithmetic, AddsTheWeightedChanges) {
    const auto values = parameters(taskArithmeticMethod(), {0.5, 2});
    // base 1: changes 2 and -1; 1 + 0.5*2 + 2*(-1) = 0.   base -4: changes 0 and 1.
    EXPECT_THAT(combined(taskArithmeticMethod(), values, {1, -4}, {{3, -4}, {0, -3}}), ElementsAre(0, -2));
}

TEST(TaskArithmetic, NormalizesAndThenScales) {
    auto values = parameters(taskArithmeticMethod(), {1, 3});
    setShared(taskArithmeticMethod(), values, "normalize", 1);
    setShared(taskArithmeticMethod(), values, "lambda", 0.5);
    EXPECT_THAT(combined(taskArithmeticMethod(), values, {10}, {{14}, {18}}), ElementsAre(10 + 0.5f * (4 + 24) / 4));
}

TEST(TaskArithmetic, DoesNotDivideByAVanishingSumOfWeights) {
    auto values = parameters(taskArithmeticMethod(), {1, -1});
    setShared(taskArithmeticMethod(), values, "normalize", 1);
    EXPECT_THAT(combined(taskArithmeticMethod(), values, {1}, {{4}, {2}}), ElementsAre(3));
}

TEST(TaskArithmetic, IgnoresDensity) {
    auto values = parameters(taskArithmeticMethod(), {1});
    setPerInput(taskArithmeticMethod(), values, "density", {0.25});
    EXPECT_THAT(combined(taskArithmeticMethod(), values, {0, 0, 0, 0}, {{1, 2, 3, 4}}), ElementsAre(1, 2, 3, 4));
}

TEST(Ties, ElectsBySumOfMassAndAveragesWhatAgrees) {
    const auto values = parameters(tiesMethod(), {1, 1, 1});
    // Column 1: 1 + 1 - 4 < 0, so only -4 is left.  2: all agree, (1+2+6)/3.  3: two are unchanged and do not count.
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0, 0}, {{1, 1, 0}, {1, 2, 5}, {-4, 6, 0}}), ElementsAre(-4, 3, 5));
}

TEST(Ties, ElectsPlusWhenTheSumIsZero) {
    const auto values = parameters(tiesMethod(), {1, 1});
    EXPECT_THAT(combined(tiesMethod(), values, {10}, {{12}, {8}}), ElementsAre(12));
}

TEST(Ties, LetsANegativeWeightFlipTheVote) {
    auto values = parameters(tiesMethod(), {-1, 0.5});
    // u = -4 and 1: minus is elected, K = {first}; m = -4 / -1 = 4.
    EXPECT_THAT(combined(tiesMethod(), values, {0}, {{4}, {2}}), ElementsAre(4));
    setShared(tiesMethod(), values, "normalize", 0);
    EXPECT_THAT(combined(tiesMethod(), values, {0}, {{4}, {2}}), ElementsAre(-4));
}

TEST(Ties, CancelsTheWeightOfASingleExpert) {
    const auto values = parameters(tiesMethod(), {0.25});
    EXPECT_THAT(combined(tiesMethod(), values, {1, 2}, {{5, -2}}), ElementsAre(5, -2));
}

TEST(Ties, ScalesByLambda) {
    auto values = parameters(tiesMethod(), {1});
    setShared(tiesMethod(), values, "lambda", 0.5);
    EXPECT_THAT(combined(tiesMethod(), values, {1}, {{5}}), ElementsAre(3));
}

TEST(Ties, KeepsTheLargestChanges) {
    auto values = parameters(tiesMethod(), {1});
    setPerInput(tiesMethod(), values, "density", {0.5});
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0, 0, 0}, {{1, -4, 3, -2}}), ElementsAre(0, -4, 3, 0));
}

TEST(Ties, KeepsTheLowerIndexAmongEqualChanges) {
    auto values = parameters(tiesMethod(), {1});
    setPerInput(tiesMethod(), values, "density", {0.6});
    EXPECT_THAT(combined(tiesMethod(), values, Floats(5), {{2, 1, -2, 2, -2}}), ElementsAre(2, 0, -2, 2, 0));
}

TEST(Ties, KeepsAtLeastOneElement) {
    auto values = parameters(tiesMethod(), {1});
    setPerInput(tiesMethod(), values, "density", {0.01});
    EXPECT_THAT(combined(tiesMethod(), values, Floats(3), {{1, -3, 2}}), ElementsAre(0, -3, 0));
}

TEST(Ties, CountsKeptElementsByTruncatingTheProduct) {
    // 0.29 * 100 is 28.999999999999996 in float64.
    Floats expert(100);
    for (std::size_t i = 0; i < expert.size(); ++i) expert[i] = static_cast<float>(i + 1);
    auto values = parameters(tiesMethod(), {1});
    setPerInput(tiesMethod(), values, "density", {0.29});
    const Floats merged = combined(tiesMethod(), values, Floats(100), {expert});
    EXPECT_EQ(std::ranges::count_if(merged, [](float value) { return value != 0; }), 28);
}

TEST(Ties, TrimsEachExpertByItsOwnDensity) {
    auto values = parameters(tiesMethod(), {1, 1});
    setPerInput(tiesMethod(), values, "density", {0.5, 1});
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0}, {{8, 2}, {4, 4}}), ElementsAre(6, 4));
}

TEST(Ties, RescaleRestoresTheMagnitudeOfTheChange) {
    auto values = parameters(tiesMethod(), {1});
    setPerInput(tiesMethod(), values, "density", {0.5});
    setShared(tiesMethod(), values, "rescale", 1);
    // sum |d| = 12, kept 8: factor 1.5.
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0, 0, 0}, {{2, -4, 4, -2}}), ElementsAre(0, -6, 6, 0));
}

TEST(Ties, RescaleLeavesAnUntrimmedOrVanishingChangeAlone) {
    auto values = parameters(tiesMethod(), {1});
    setShared(tiesMethod(), values, "rescale", 1);
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0}, {{2, 1}}), ElementsAre(2, 1));
    setPerInput(tiesMethod(), values, "density", {0.5});
    EXPECT_THAT(combined(tiesMethod(), values, {0, 0}, {{0x1p-30f, 0x1p-31f}}), ElementsAre(0x1p-30f, 0));
}

TEST(Ties, Int8MaskHasNoEffect) {
    auto values = parameters(tiesMethod(), {1});
    setShared(tiesMethod(), values, "int8_mask", 1);
    EXPECT_THAT(combined(tiesMethod(), values, {1, 2}, {{5, -2}}), ElementsAre(5, -2));
}

TEST(AddDelta, LeavesTheBitsOfAnUnchangedBase) {
    const Floats base{-0.0f, 0.0f, 1.5f};
    for (const Method* method : {&taskArithmeticMethod(), &tiesMethod()})
        EXPECT_EQ(bitsOf(combined(*method, parameters(*method, {1, 1}), base, {base, base})), bitsOf(base))
            << method->info().name;
}

TEST(Registry, FindsMethodsByNameAndSuggestsTheNearest) {
    EXPECT_EQ(&findMethod("ties", {}), &tiesMethod());
    try {
        findMethod("task_arithmetics", {"merge.yaml", 1, 15});
        FAIL() << "accepted";
    } catch (const UsageError& error) {
        EXPECT_STREQ(error.what(),
                     "merge.yaml:1:15: there is no merge method 'task_arithmetics'; did you mean 'task_arithmetic'?");
    }
}

}  // namespace
}  // namespace aimerge
