#include "merge/methods/closed_form.h"

#include "aimerge/core/error.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Doubles = std::vector<double>;

std::vector<std::shared_ptr<const TensorSource>> gramSources(const std::vector<Floats>& grams) {
    std::vector<std::shared_ptr<const TensorSource>> sources;
    for (const Floats& gram : grams) sources.push_back(std::make_shared<MemorySource>("gram", gram));
    return sources;
}

/// A parameter [rows, columns] through prepare and combine. @param grams empty for methods without
Floats solved(const Method& method, const ResolvedParameters& values, const Shape& shape, const Floats& base,
              const std::vector<Floats>& inputs, const std::vector<Floats>& grams = {}) {
    ThreadPool pool(2);
    MemoryReader reader(base, inputs, pool, 1000, shape);
    reader.grams = gramSources(grams);
    return combinedFrom(reader, method, values, base, inputs);
}

ResolvedParameters withRidge(const Method& method, const Doubles& weights, double ridge) {
    ResolvedParameters values = parameters(method, weights);
    setShared(method, values, "ridge", ridge);
    return values;
}

ResolvedParameters regMeanValues(const Doubles& weights, double alpha, double ridge = 0) {
    ResolvedParameters values = withRidge(regMeanMethod(), weights, ridge);
    setShared(regMeanMethod(), values, "alpha", alpha);
    return values;
}

// W_1 = (1 2), W_2 = (3 6): E = (2 4). C_1 = [2 1; 1 2], C_2 = [2 -1; -1 2]: their sum is 4 I.
const std::vector<Floats> kExperts{{1, 2}, {3, 6}}, kGrams{{2, 1, 1, 2}, {2, -1, -1, 2}};

TEST(RegMean, SolvesTheNormalEquations) {
    // E C_2 = (0 6), X = (0 1.5).
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 1}, 1), {1, 2}, {}, kExperts, kGrams), ElementsAre(1, 3.5f));
}

TEST(RegMean, ScalesOffDiagonalElements) {
    // C_2 = [2 -0.5; -0.5 2]: E C_2 = (2 7), X = (0.5 1.75).
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 1}, 0.5), {1, 2}, {}, kExperts, kGrams), ElementsAre(1.5f, 3.75f));
}

TEST(RegMean, OfDiagonalsAloneIsAMeanPerChannel) {
    // Alpha 0, equal diagonals: the mean with weights 1 and 3.
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 3}, 0), {1, 2}, {}, kExperts, kGrams), ElementsAre(2.5f, 5));
    // Diagonals (1 3) and (3 1): shares 1/4, 3/4 and 3/4, 1/4.
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 1}, 0), {1, 2}, {}, kExperts, {{1, 9, 9, 3}, {3, 9, 9, 1}}),
                ElementsAre(2.5f, 3));
}

TEST(RegMean, IsTheWeightedMeanWithoutGramMatrices) {
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 3}, 0.9), {1, 2}, {}, kExperts), ElementsAre(2.5f, 5));
}

TEST(RegMean, DoesNotDependOnABase) {
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 1}, 1), {1, 2}, {100, -50}, kExperts, kGrams),
                ElementsAre(1, 3.5f));
}

TEST(RegMean, GivesChannelsWithoutInputTheMean) {
    const std::vector<Floats> grams{{1, 0, 0, 0}, {1, 0, 0, 0}};
    EXPECT_THAT(solved(regMeanMethod(), regMeanValues({1, 1}, 1, 0.5), {1, 2}, {}, kExperts, grams), ElementsAre(2, 4));
}

TEST(RegMean, RefusesASingularSumWithoutRidge) {
    try {
        solved(regMeanMethod(), regMeanValues({1, 1}, 1), {1, 2}, {}, kExperts, {{1, 0, 0, 0}, {1, 0, 0, 0}});
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(),
                    HasSubstr("weight: the experts' matrices add up to a singular one, at input channel 1 of 2"));
        EXPECT_THAT(error.what(), HasSubstr("set ridge above 0"));
    }
}

TEST(ActMat, AddsChangesInDirectionsOfTheirOwn) {
    // Each expert changed another input channel: both changes are kept whole.
    for (const Method* method : {&actMatMethod(), &wudiMethod()})
        EXPECT_THAT(solved(*method, withRidge(*method, {1, 1}, 0), {2, 2}, {1, 1, 1, 1}, {{2, 1, 1, 1}, {1, 1, 1, 3}}),
                    ElementsAre(2, 1, 1, 3));
}

TEST(ActMat, WeighsChangesInOneDirectionByTheirSize) {
    // D = 1 and 2, C = 4 * 1 and 1 * 4: (4 * 1 + 4 * 2) / 8.
    EXPECT_THAT(solved(actMatMethod(), withRidge(actMatMethod(), {4, 1}, 0), {1, 1}, {10}, {{11}, {12}}),
                ElementsAre(11.5f));
}

TEST(Wudi, WeighsChangesInOneDirectionAlike) {
    // D = 1 and 2, C = 3 and 1: (3 * 1 + 1 * 2) / 4.
    EXPECT_THAT(solved(wudiMethod(), withRidge(wudiMethod(), {3, 1}, 0), {1, 1}, {10}, {{11}, {12}}), ElementsAre(11.25f));
}

TEST(ActMat, ScalesTheWholeChange) {
    ResolvedParameters values = withRidge(actMatMethod(), {1, 1}, 0);
    setShared(actMatMethod(), values, "lambda", 0.5);
    EXPECT_THAT(solved(actMatMethod(), values, {2, 2}, {1, 1, 1, 1}, {{2, 1, 1, 1}, {1, 1, 1, 3}}),
                ElementsAre(1.5f, 1, 1, 2));
}

TEST(ActMat, TakesTheMeanOfVectorsAndVocabularies) {
    ResolvedParameters values = parameters(actMatMethod(), {1, 3});
    setShared(actMatMethod(), values, "lambda", 2);
    EXPECT_THAT(combined(actMatMethod(), values, {1, 1}, {{1, 5}, {5, 1}}), ElementsAre(7, 3));

    TensorMerge merge = tensorMerge(actMatMethod(), values, {1, 2}, {1, 1}, {{1, 5}, {5, 1}});
    merge.parameter.role = Role::Embedding;
    ThreadPool threads(1);
    MemorySink sink;
    mergeTensors({&merge, 1}, {}, DeltaRounding::None, threads, sink);
    EXPECT_THAT(sink.values<float>(0), ElementsAre(7, 3));
}

TEST(ClosedForm, TakesAnyNumberOfExperts) {
    // Ten experts 1, 2, ... 10 and equal weights: the mean 5.5, as a vector; as a layer [1, 1] with C_i = D_i^2 the quotient
    // of the sums of cubes and squares, 3025 / 385.
    std::vector<Floats> experts;
    for (int i = 1; i <= 10; ++i) experts.push_back({static_cast<float>(i)});
    const ResolvedParameters values = withRidge(actMatMethod(), Doubles(10, 1), 0);
    // Ten products with 0.1 as float32 has it.
    EXPECT_NEAR(solved(actMatMethod(), values, {1}, {0}, experts).front(), 5.5f, 10 * 4.5 * 0x1p-24);
    EXPECT_FLOAT_EQ(solved(actMatMethod(), values, {1, 1}, {0}, experts).front(), 3025.0f / 385);
}

TEST(ClosedForm, RefusesWeightsThatAreAllZero) {
    const auto problem = wudiMethod().check(parameters(wudiMethod(), {0, 0}));
    ASSERT_TRUE(problem);
    EXPECT_EQ(problem->text, "all 2 experts have weight 0; give one a weight above 0");
    EXPECT_FALSE(wudiMethod().check(parameters(wudiMethod(), {0, 1})));
}

TEST(ClosedForm, TellsItsMemory) {
    // Tiles of 128 x 128. [130, 256]: 3 tiles of S and 4 of N in float64; while building, 4 of W_i - W_1 and 3 of C_i in
    // float32.
    constexpr std::uint64_t kLayer = (3 + 4) * 128 * 128 * 8 + (4 + 3) * 128 * 128 * 4;
    const auto bytes = [](const Method& method, Role role, const Shape& shape) {
        return method.workingBytes(role, shape, parameters(method, {1, 1}));
    };
    for (const Method* method : {&actMatMethod(), &regMeanMethod()}) {
        EXPECT_EQ(bytes(*method, Role::Linear, {130, 256}), kLayer);
        EXPECT_EQ(bytes(*method, Role::Norm, {256}), 0u);
        EXPECT_EQ(bytes(*method, Role::Embedding, {32000, 256}), 0u);
    }
}

TEST(MergeParameterBytes, AreTheLargestAndWhatAGroupHolds) {
    EXPECT_EQ(mergeParameterBytes({}), 0u);
    EXPECT_EQ(mergeParameterBytes(std::vector<std::uint64_t>{7, 0, 5}), 12u);
    const std::uint64_t large = std::uint64_t{1} << 30;
    EXPECT_EQ(mergeParameterBytes(std::vector<std::uint64_t>{large, large, large}), large + (std::uint64_t{256} << 20));
}

// --- against a plain float64 solution -----------------------------------------------------------------------------------

/// x s = n by Gaussian elimination with pivots; s [order, order] is symmetric, n [rows, order].
Doubles eliminated(Doubles s, Doubles n, std::size_t order) {
    const std::size_t rows = n.size() / order;
    for (std::size_t k = 0; k < order; ++k) {
        std::size_t best = k;
        for (std::size_t r = k; r < order; ++r)
            if (std::abs(s[r * order + k]) > std::abs(s[best * order + k])) best = r;
        for (std::size_t c = 0; c < order; ++c) std::swap(s[k * order + c], s[best * order + c]);
        for (std::size_t x = 0; x < rows; ++x) std::swap(n[x * order + k], n[x * order + best]);
        for (std::size_t r = k + 1; r < order; ++r) {
            const double factor = s[r * order + k] / s[k * order + k];
            for (std::size_t c = k; c < order; ++c) s[r * order + c] -= factor * s[k * order + c];
            for (std::size_t x = 0; x < rows; ++x) n[x * order + r] -= factor * n[x * order + k];
        }
    }
    for (std::size_t k = order; k-- > 0;) {
        for (std::size_t x = 0; x < rows; ++x) {
            for (std::size_t c = k + 1; c < order; ++c) n[x * order + k] -= s[k * order + c] * n[x * order + c];
            n[x * order + k] /= s[k * order + k];
        }
    }
    return n;
}

/// (sum_i W_i C_i)(sum_i C_i)^-1 with C_i already weighted, and shrunk.
Doubles reference(const std::vector<Floats>& experts, std::vector<Doubles> c, std::size_t order, const Doubles& weights,
                  double ridge) {
    double trace = 0, total = 0;
    for (const Doubles& each : c)
        for (std::size_t k = 0; k < order; ++k) trace += each[k * (order + 1)];
    for (const double weight : weights) total += weight;
    Doubles s(order * order), n(experts.front().size());
    for (std::size_t i = 0; i < c.size(); ++i) {
        for (std::size_t k = 0; k < order; ++k)
            c[i][k * (order + 1)] += ridge * trace / static_cast<double>(order) * weights[i] / total;
        for (std::size_t k = 0; k < s.size(); ++k) s[k] += c[i][k];
        for (std::size_t e = 0; e < n.size(); ++e)
            for (std::size_t k = 0; k < order; ++k) n[e] += experts[i][e / order * order + k] * c[i][k * order + e % order];
    }
    return eliminated(s, n, order);
}

Doubles gramOf(const Floats& rows, std::size_t order) {
    Doubles gram(order * order);
    for (std::size_t r = 0; r < rows.size() / order; ++r)
        for (std::size_t i = 0; i < order; ++i)
            for (std::size_t j = 0; j < order; ++j) gram[i * order + j] += double{rows[r * order + i]} * rows[r * order + j];
    return gram;
}

/// Whole numbers from -2 to 2: Gram matrices and products of such are exact in float32.
Floats wholeNumbers(std::size_t count, std::uint64_t stream) {
    const RandomStream random{.seed = 5, .stream = stream};
    Floats values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.block(i).word[0] % 5) - 2;
    return values;
}

/// Only the float64 solution (condition numbers here are below 10^5: 10^5 * 300 * 2^-53 < 10^-8) and the roundings of X and
/// of the result to float32 are inexact; values are below 16.
constexpr double kTolerance = 16 * 0x1p-23;

struct Case {
    std::size_t rows, columns;
    double ridge;
};
class ClosedFormOf : public testing::TestWithParam<Case> {
protected:
    const Doubles weights_{1, 2, 0.5};
    Shape shape() const {
        return {static_cast<std::int64_t>(GetParam().rows), static_cast<std::int64_t>(GetParam().columns)};
    }
    std::vector<Floats> experts() const {
        std::vector<Floats> values;
        for (std::uint64_t i = 0; i < 3; ++i) values.push_back(wholeNumbers(GetParam().rows * GetParam().columns, i));
        return values;
    }
};
// More changes than input channels, fewer (the sum is singular without the ridge), one tile and more.
INSTANTIATE_TEST_SUITE_P(, ClosedFormOf,
                         testing::Values(Case{7, 13, 0}, Case{13, 7, 0.25}, Case{3, 13, 0.01}, Case{1, 1, 0},
                                         Case{128, 128, 0}, Case{130, 259, 0.01}, Case{60, 259, 0.01}),
                         [](const auto& test) {
                             return fmt::format("{}x{}_{}", test.param.rows, test.param.columns, test.index);
                         });

TEST_P(ClosedFormOf, TaskVectorsIsThePlainSolution) {
    const std::vector<Floats> inputs = experts();
    std::vector<Doubles> c;
    for (std::size_t i = 0; i < 3; ++i) {
        c.push_back(gramOf(inputs[i], GetParam().columns));
        for (double& value : c.back()) value *= weights_[i];
    }

    const Floats out = solved(actMatMethod(), withRidge(actMatMethod(), weights_, GetParam().ridge), shape(),
                              Floats(inputs.front().size()), inputs);

    const Doubles expected = reference(inputs, c, GetParam().columns, weights_, GetParam().ridge);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], kTolerance) << i;
}

TEST_P(ClosedFormOf, InputGramsIsThePlainSolution) {
    const std::size_t order = GetParam().columns;
    constexpr double kAlpha = 0.5;
    std::vector<Floats> grams;
    std::vector<Doubles> c;
    for (std::size_t i = 0; i < 3; ++i) {
        const Doubles gram = gramOf(wholeNumbers(2 * order * order, 10 + i), order);
        grams.emplace_back(gram.begin(), gram.end());
        c.push_back(gram);
        for (std::size_t k = 0; k < gram.size(); ++k) c[i][k] *= weights_[i] * (k % (order + 1) == 0 ? 1 : kAlpha);
    }

    const Floats out =
        solved(regMeanMethod(), regMeanValues(weights_, kAlpha, GetParam().ridge), shape(), {}, experts(), grams);

    const Doubles expected = reference(experts(), c, order, weights_, GetParam().ridge);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], expected[i], kTolerance) << i;
}

// Without ridge, whose shares are those of the weights alone.
TEST(Wudi, IsActMatWithWeightsThatNormaliseTheChanges) {
    const Shape shape{131, 260};
    std::vector<Floats> inputs;
    Doubles weights;
    for (std::uint64_t i = 0; i < 3; ++i) {
        inputs.push_back(wholeNumbers(131 * 260, i));
        double squares = 0;
        for (const float value : inputs.back()) squares += double{value} * value;
        weights.push_back(1 / squares);
    }
    const Floats base(inputs.front().size());

    EXPECT_EQ(bitsOf(solved(wudiMethod(), withRidge(wudiMethod(), {1, 1, 1}, 0), shape, base, inputs)),
              bitsOf(solved(actMatMethod(), withRidge(actMatMethod(), weights, 0), shape, base, inputs)));
}

// --- properties ---------------------------------------------------------------------------------------------------------

class DataFree : public testing::TestWithParam<const Method*> {
protected:
    const Method& method_ = *GetParam();
    const Shape shape_{37, 150};
    const std::size_t elements_ = 37 * 150;
    const Floats base_ = normalValues(elements_, 1, 0.05f);

    Floats expert(std::uint64_t stream) const {
        Floats values = normalValues(elements_, stream, 0.01f);
        for (std::size_t i = 0; i < elements_; ++i) values[i] += base_[i];
        return values;
    }
};
INSTANTIATE_TEST_SUITE_P(, DataFree, testing::Values(&actMatMethod(), &wudiMethod()),
                         [](const auto& test) { return test.param->info().name; });

TEST_P(DataFree, EqualExpertsAndASingleOneAreThatExpert) {
    const Floats same = expert(2);
    EXPECT_EQ(bitsOf(solved(method_, parameters(method_, {1, 2, 0.3}), shape_, base_, {same, same, same})), bitsOf(same));
    EXPECT_EQ(bitsOf(solved(method_, parameters(method_, {0.7}), shape_, base_, {same})), bitsOf(same));
}

TEST_P(DataFree, OnlyTheRatiosOfWeightsMatter) {
    const std::vector<Floats> experts{expert(2), expert(3), expert(4)};
    EXPECT_EQ(bitsOf(solved(method_, parameters(method_, {1, 0.3, 2}), shape_, base_, experts)),
              bitsOf(solved(method_, parameters(method_, {4, 1.2, 8}), shape_, base_, experts)));
}

TEST_P(DataFree, LeavesChannelsAloneThatNoExpertChanged) {
    std::vector<Floats> experts{expert(2), expert(3)};
    for (Floats& values : experts)
        for (std::size_t i = 130; i < elements_; i += 150) values[i] = base_[i];

    const Floats out = solved(method_, parameters(method_, {1, 1}), shape_, base_, experts);

    for (std::size_t i = 130; i < elements_; i += 150) EXPECT_EQ(bitsOfFloat(out[i]), bitsOfFloat(base_[i])) << i;
}

TEST_P(DataFree, GoesToTheMeanAsTheRidgeGrows) {
    const std::vector<Floats> experts{expert(2), expert(3)};
    const Floats out = solved(method_, withRidge(method_, {1, 3}, 1e9), shape_, base_, experts);
    // Of relative size 1 / ridge and less is what is left of the solution; then values of 0.3 and less are rounded.
    for (std::size_t i = 0; i < elements_; ++i) EXPECT_NEAR(out[i], 0.25 * experts[0][i] + 0.75 * experts[1][i], 0x1p-24);
}

TEST_P(DataFree, AnExpertOfWeightZeroDoesNotCount) {
    const std::vector<Floats> experts{expert(2), expert(3), expert(4)};
    const Floats out = solved(method_, parameters(method_, {0, 1, 2}), shape_, base_, experts);
    const Floats expected = solved(method_, parameters(method_, {1, 2}), shape_, base_, {experts[1], experts[2]});
    // Corrections of different experts: float32 products of differences of 0.05, times a condition number below 10^3.
    for (std::size_t i = 0; i < elements_; ++i) EXPECT_NEAR(out[i], expected[i], 1e3 * 0.05 * 0x1p-23);
}

TEST_P(DataFree, TensorsOfOneGroupDoNotDisturbEachOther) {
    std::vector<TensorMerge> merges;
    for (std::uint64_t i = 0; i < 3; ++i)
        merges.push_back(tensorMerge(method_, parameters(method_, {1, 1}), shape_, base_, {expert(2 + i), expert(7 + i)}));
    ThreadPool threads(2);
    MemorySink together;

    mergeTensors(merges, {}, DeltaRounding::None, threads, together);

    for (std::size_t i = 0; i < 3; ++i) {
        MemorySink alone;
        mergeTensors({&merges[i], 1}, {}, DeltaRounding::None, threads, alone);
        EXPECT_EQ(bitsOf(together.values<float>(i)), bitsOf(alone.values<float>(0)));
    }
}

}  // namespace
}  // namespace aimerge
