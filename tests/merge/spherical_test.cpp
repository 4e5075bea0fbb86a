// The methods made of inner products: by hand, and against plain float64 arithmetic.

#include "aimerge/core/error.h"
#include "aimerge/merge/karcher.h"
#include "aimerge/merge/model_stock.h"
#include "aimerge/merge/multislerp.h"
#include "aimerge/merge/nuslerp.h"
#include "aimerge/merge/slerp.h"
#include "merge/inner_products.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

#include <numeric>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

const float kHalfRoot = std::sqrt(0.5f);

ResolvedParameters slerpAt(double t) {
    ResolvedParameters values;
    values.shared = {t};
    values.perInput = {{}};
    return values;
}

/// Parameters at their defaults, for methods without weights.
ResolvedParameters defaults(const Method& method, std::size_t inputs) {
    return parameters(method, std::vector<double>(inputs, 1.0));
}

double dot(const Floats& a, const Floats& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0, std::plus<>(),
                              [](float x, float y) { return double{x} * y; });
}

// ---- inner products

TEST(InnerProducts, AreThoseOfTensorRowsAndColumns) {
    // Rows (1 2 3) and (4 5 6) of one input, (1 1 1) and (2 2 2) of the other; base all ones.
    ThreadPool pool(2);
    MemoryReader reader(Floats(6, 1.0f), {{1, 2, 3, 4, 5, 6}, {1, 1, 1, 2, 2, 2}}, pool, 4, {2, 3});

    const InnerProducts tensor = innerProducts(reader, Vectors::Inputs, Along::Tensor);
    const InnerProducts rows = innerProducts(reader, Vectors::Inputs, Along::Rows);
    const InnerProducts columns = innerProducts(reader, Vectors::Inputs, Along::Columns);
    const InnerProducts changes = innerProducts(reader, Vectors::ChangesAndBase, Along::Tensor);

    EXPECT_EQ(tensor(0, 0, 0), 91);
    EXPECT_EQ(tensor(0, 0, 1), 6 + 30);
    ASSERT_EQ(rows.positions(), 2u);
    EXPECT_EQ(rows(0, 0, 0), 14);
    EXPECT_EQ(rows(1, 1, 0), 30);
    ASSERT_EQ(columns.positions(), 3u);
    EXPECT_EQ(columns(0, 0, 0), 1 + 16);
    EXPECT_EQ(columns(2, 0, 1), 3 + 12);
    EXPECT_EQ(changes(0, 0, 0), 0 + 1 + 4 + 9 + 16 + 25);
    EXPECT_EQ(changes(0, 1, 2), 3);
    EXPECT_EQ(changes(0, 2, 2), 6);
}

TEST(InnerProducts, HaveTheSameBitsForAnyThreadsAndChunks) {
    const Shape shape{131, 1031};
    const auto elements = static_cast<std::size_t>(elementCount(shape));
    const Floats base = normalValues(elements, 1, 1), a = normalValues(elements, 2, 1), b = normalValues(elements, 3, 1);
    for (const Along along : {Along::Tensor, Along::Rows, Along::Columns}) {
        std::vector<double> expected;
        for (const auto& [threads, chunk] : {std::pair{1, 1000}, std::pair{3, 17}, std::pair{5, 1024}}) {
            ThreadPool pool(threads);
            MemoryReader reader(base, {a, b}, pool, chunk, shape);
            const InnerProducts products = innerProducts(reader, Vectors::Changes, along);
            std::vector<double> values;
            for (std::size_t p = 0; p < products.positions(); ++p)
                for (std::size_t i = 0; i < 2; ++i) values.push_back(products(p, i, 1));
            if (expected.empty()) expected = values;
            EXPECT_EQ(values, expected) << threads;
        }
    }
}

// ---- slerp

TEST(Slerp, OfOrthogonalUnitVectorsIsOnTheArc) {
    const Floats middle = combined(slerpMethod(), slerpAt(0.5), {1, 0}, {{0, 1}});

    EXPECT_THAT(middle, ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot)));
}

TEST(Slerp, ScalesTheVectorsAsTheyAre) {
    // Coefficients of a right angle, cos 30 and sin 30 degrees at t = 1/3, times lengths 2 and 4.
    const Floats point = combined(slerpMethod(), slerpAt(1.0 / 3), {2, 0}, {{0, 4}});

    EXPECT_THAT(point, ElementsAre(FloatEq(std::sqrt(3.0f)), FloatEq(2)));
}

TEST(Slerp, AtItsEndsIsTheModel) {
    const Floats base = normalValues(513, 1, 1), expert = normalValues(513, 2, 1);

    EXPECT_EQ(bitsOf(combined(slerpMethod(), slerpAt(0), base, {expert})), bitsOf(base));
    EXPECT_EQ(combined(slerpMethod(), slerpAt(1), base, {expert}), expert);
}

TEST(Slerp, OfNearlyParallelVectorsIsLinear) {
    EXPECT_THAT(combined(slerpMethod(), slerpAt(0.25), {8, 0}, {{16, 0}}), ElementsAre(10, 0));
    EXPECT_THAT(combined(slerpMethod(), slerpAt(0.25), {8, 0}, {{-8, 0}}), ElementsAre(4, 0));
}

TEST(Slerp, OfAZeroVectorTurnsAQuarter) {
    // The cosine is 0: sin(90 * 0.5) = sqrt(1/2) of the other vector.
    EXPECT_THAT(combined(slerpMethod(), slerpAt(0.5), {0, 0}, {{0, 2}}), ElementsAre(0, FloatEq(2 * kHalfRoot)));
}

TEST(Slerp, OfEqualModelsKeepsEveryBit) {
    const Floats same = normalValues(4096, 1, 0.02f);

    EXPECT_EQ(bitsOf(combined(slerpMethod(), slerpAt(0.3), same, {same})), bitsOf(same));
}

TEST(Slerp, FollowsTheFormulaInFloat64) {
    const Floats a = normalValues(1001, 1, 1), c = normalValues(1001, 2, 3);
    const double phi = std::acos(dot(a, c) / std::sqrt(dot(a, a) * dot(c, c)));

    const Floats point = combined(slerpMethod(), slerpAt(0.3), a, {c});

    for (std::size_t i = 0; i < a.size(); ++i)
        EXPECT_NEAR(point[i], (std::sin(0.7 * phi) * a[i] + std::sin(0.3 * phi) * c[i]) / std::sin(phi), 1e-6);
}

// ---- nuslerp

TEST(Nuslerp, TakesItsPlaceOnTheArcFromTheWeights) {
    // t = 1 / 3 between orthogonal unit vectors.
    const Floats point = combined(nuslerpMethod(), parameters(nuslerpMethod(), {2, 1}), {}, {{1, 0}, {0, 1}});

    EXPECT_THAT(point, ElementsAre(FloatEq(std::sqrt(0.75f)), FloatEq(0.5f)));
}

TEST(Nuslerp, WithABaseTurnsTheChanges) {
    const Floats point = combined(nuslerpMethod(), parameters(nuslerpMethod(), {1, 1}), {5, 5}, {{6, 5}, {5, 6}});

    EXPECT_THAT(point, ElementsAre(FloatEq(5 + kHalfRoot), FloatEq(5 + kHalfRoot)));
}

TEST(Nuslerp, OfWeightsThatCancelIsHalfWay) {
    const Floats point = combined(nuslerpMethod(), parameters(nuslerpMethod(), {1, -1}), {}, {{1, 0}, {0, 1}});

    EXPECT_THAT(point, ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot)));
}

TEST(Nuslerp, OfColinearVectorsIsLinear) {
    EXPECT_THAT(combined(nuslerpMethod(), parameters(nuslerpMethod(), {1, 3}), {}, {{4, 0}, {8, 0}}), ElementsAre(7, 0));
    EXPECT_THAT(combined(nuslerpMethod(), parameters(nuslerpMethod(), {1, 3}), {}, {{4, 0}, {-4, 0}}), ElementsAre(-2, 0));
}

TEST(Nuslerp, TakesRowsOrColumnsAsVectors) {
    // Rows (1 0), (1 0) and (0 1), (1 0): the first turn into each other, the second are equal. Columns (1 1), (0 0) and (0
    // 1), (1 0): an angle of 45 degrees; a zero vector, at right angles to anything.
    ResolvedParameters values = parameters(nuslerpMethod(), {1, 1});
    setShared(nuslerpMethod(), values, "nuslerp_flatten", 0);
    const std::vector<Floats> inputs{{1, 0, 1, 0}, {0, 1, 1, 0}};

    const Floats rows = combined(nuslerpMethod(), values, {}, inputs, 1, {2, 2});
    setShared(nuslerpMethod(), values, "nuslerp_row_wise", 1);
    const Floats columns = combined(nuslerpMethod(), values, {}, inputs, 1, {2, 2});

    EXPECT_THAT(rows, ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot), 1, 0));
    const float side = static_cast<float>(std::sin(std::numbers::pi / 8) / std::sin(std::numbers::pi / 4));
    EXPECT_THAT(columns, ElementsAre(FloatEq(side), FloatEq(kHalfRoot), FloatEq(2 * side), 0));
}

// ---- multislerp

TEST(Multislerp, HasTheMeanDirectionAndTheMeanLength) {
    const Floats mean = combined(multislerpMethod(), parameters(multislerpMethod(), {1, 1}), {}, {{2, 0}, {0, 4}});

    EXPECT_THAT(mean, ElementsAre(FloatEq(3 * kHalfRoot), FloatEq(3 * kHalfRoot)));
}

TEST(Multislerp, OfOneModelIsThatModel) {
    const Floats base = normalValues(100, 1, 1), expert = normalValues(100, 2, 1);

    EXPECT_EQ(bitsOf(combined(multislerpMethod(), parameters(multislerpMethod(), {7}), base, {expert})), bitsOf(expert));
}

TEST(Multislerp, OfTwoOppositeDirectionsIsTheirWeightedSum) {
    const Floats sum = combined(multislerpMethod(), parameters(multislerpMethod(), {1, 1}), {}, {{4, 0}, {-2, 0}});

    EXPECT_THAT(sum, ElementsAre(1, 0));
}

TEST(Multislerp, RefusesMoreDirectionsThatCancel) {
    const std::vector<Floats> star{{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    try {
        combined(multislerpMethod(), parameters(multislerpMethod(), {1, 1, 1, 1}), {}, star);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("weight: the directions of the 4 models cancel each other"));
    }
}

TEST(Multislerp, RefusesWeightsThatAddUpToZero) {
    EXPECT_TRUE(multislerpMethod().check(parameters(multislerpMethod(), {1, -1})));
    EXPECT_FALSE(multislerpMethod().check(parameters(multislerpMethod(), {1, -0.5})));
}

// ---- karcher

TEST(Karcher, OfTwoVectorsHalvesTheirAngle) {
    const Floats mean = combined(karcherMethod(), defaults(karcherMethod(), 2), {}, {{2, 0}, {0, 4}});

    EXPECT_THAT(mean, ElementsAre(FloatEq(3 * kHalfRoot), FloatEq(3 * kHalfRoot)));
}

TEST(Karcher, CountsAZeroTensorInTheLengthOnly) {
    const Floats mean = combined(karcherMethod(), defaults(karcherMethod(), 3), {}, {{0, 0}, {6, 0}, {0, 6}});

    EXPECT_THAT(mean, ElementsAre(FloatEq(4 * kHalfRoot), FloatEq(4 * kHalfRoot)));
}

TEST(Karcher, OfZeroTensorsIsZero) {
    EXPECT_THAT(combined(karcherMethod(), defaults(karcherMethod(), 2), {}, {{0, 0}, {0, 0}}), ElementsAre(0, 0));
}

TEST(Karcher, HasNoMeanTangentLeft) {
    const std::vector<Floats> inputs{normalValues(400, 1, 1), normalValues(400, 2, 2), normalValues(400, 3, 1),
                                     normalValues(400, 4, 3)};

    const Floats mean = combined(karcherMethod(), defaults(karcherMethod(), 4), {}, inputs);

    std::vector<double> tangent(mean.size());
    const double length = std::sqrt(dot(mean, mean));
    for (const Floats& input : inputs) {
        const double norm = std::sqrt(dot(input, input)), cosine = dot(mean, input) / (norm * length);
        const double factor = std::acos(cosine) / std::sqrt(1 - cosine * cosine);
        for (std::size_t i = 0; i < mean.size(); ++i) tangent[i] += factor * (input[i] / norm - cosine * mean[i] / length);
    }
    EXPECT_LT(std::sqrt(std::inner_product(tangent.begin(), tangent.end(), tangent.begin(), 0.0)), 4 * 1e-5);
}

// ---- model stock

TEST(ModelStock, OfOrthogonalChangesIsTheBaseAndOfEqualOnesTheExperts) {
    const ResolvedParameters values = defaults(modelStockMethod(), 2);

    EXPECT_THAT(combined(modelStockMethod(), values, {1, 1}, {{3, 1}, {1, 3}}), ElementsAre(1, 1));
    EXPECT_THAT(combined(modelStockMethod(), values, {1, 1}, {{3, 2}, {3, 2}}), ElementsAre(3, 2));
}

TEST(ModelStock, GoesByTheAngle) {
    // cos 60 degrees = 1/2: t = 2 * 0.5 / 1.5 = 2/3 of the way to the mean (1.5, sqrt(3)/2).
    const float root = std::sqrt(3.0f);

    const Floats merged = combined(modelStockMethod(), defaults(modelStockMethod(), 2), {0, 0}, {{2, 0}, {1, root}});

    EXPECT_THAT(merged, ElementsAre(FloatEq(1), FloatEq(root / 3)));
}

TEST(ModelStock, FilterWiseHasAnAngleForEachRow) {
    ResolvedParameters values = defaults(modelStockMethod(), 2);
    setShared(modelStockMethod(), values, "filter_wise", 1);

    const Floats merged = combined(modelStockMethod(), values, {0, 0, 0, 0}, {{2, 0, 4, 2}, {0, 2, 4, 2}}, 1, {2, 2});

    EXPECT_THAT(merged, ElementsAre(0, 0, 4, 2));
}

TEST(ModelStock, OfTinyChangesTakesTheirCosineForSmall) {
    // Norms of 1e-4: their product counts as 1e-6, so equal changes have "cosine" 0.01 and t = 0.02 / 1.01.
    const float change = 1e-4f;

    const Floats merged = combined(modelStockMethod(), defaults(modelStockMethod(), 2), {0}, {{change}, {change}});

    EXPECT_NEAR(merged[0], change * 0.02 / 1.01, 1e-9);
}

}  // namespace
}  // namespace aimerge
