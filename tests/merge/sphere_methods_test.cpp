// slerp, nuslerp, multislerp, karcher and model_stock: by hand, then against their definitions in float64.

#include "aimerge/core/error.h"
#include "merge/algebra/inner_products.h"
#include "merge/memory_parameter.h"
#include "merge/methods/karcher.h"
#include "merge/methods/model_stock.h"
#include "merge/methods/multislerp.h"
#include "merge/methods/nuslerp.h"
#include "merge/methods/slerp.h"

#include <gmock/gmock.h>

#include <functional>
#include <numeric>
#include <ostream>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::FloatEq;
using testing::HasSubstr;

const float kHalfRoot = std::sqrt(0.5f);

Floats slerp(double t, const Floats& base, const Floats& expert) {
    return combined(slerpMethod(), {.shared = {t}, .perInput = {{}}}, base, {expert});  // t has no default
}

Floats nuslerp(std::vector<double> weights, const Floats& base, const std::vector<Floats>& inputs, const Shape& shape = {},
               bool flatten = true, bool rowWise = false) {
    auto values = parameters(nuslerpMethod(), weights);
    setShared(nuslerpMethod(), values, "nuslerp_flatten", flatten);
    setShared(nuslerpMethod(), values, "nuslerp_row_wise", rowWise);
    return combined(nuslerpMethod(), values, base, inputs, 1, shape);
}

Floats multislerp(std::vector<double> weights, const Floats& base, const std::vector<Floats>& inputs, double eps = 1e-8) {
    auto values = parameters(multislerpMethod(), weights);
    setShared(multislerpMethod(), values, "eps", eps);
    return combined(multislerpMethod(), values, base, inputs);
}

Floats karcher(const std::vector<Floats>& inputs) {
    return combined(karcherMethod(), parameters(karcherMethod(), std::vector<double>(inputs.size(), 1)), {}, inputs);
}

Floats modelStock(const Floats& base, const std::vector<Floats>& inputs, const Shape& shape = {}, bool filterWise = false) {
    auto values = parameters(modelStockMethod(), std::vector<double>(inputs.size(), 1));
    setShared(modelStockMethod(), values, "filter_wise", filterWise);
    return combined(modelStockMethod(), values, base, inputs, 1, shape);
}

TEST(Slerp, StaysOnTheArcBetweenOrthogonalUnitVectors) {
    EXPECT_THAT(slerp(0.5, {1, 0}, {0, 1}), ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot)));
    EXPECT_THAT(slerp(1.0 / 3, {1, 0}, {0, 1}), ElementsAre(FloatEq(std::sqrt(0.75f)), FloatEq(0.5f)));
}

TEST(Slerp, MultipliesTheVectorsAsTheyAre) {
    EXPECT_THAT(slerp(0.5, {2, 0}, {0, 4}), ElementsAre(FloatEq(2 * kHalfRoot), FloatEq(4 * kHalfRoot)));
}

TEST(Slerp, EndsAtItsModelsBitForBit) {
    const Floats base = normalValues(999, 1, 1), expert = normalValues(999, 2, 1);
    EXPECT_EQ(bitsOf(slerp(0, base, expert)), bitsOf(base));
    EXPECT_EQ(bitsOf(slerp(1, base, expert)), bitsOf(expert));
}

TEST(Slerp, IsLinearWhereColinearOrOpposite) {
    EXPECT_THAT(slerp(0.25, {4, 8}, {8, 16}), ElementsAre(5, 10));
    EXPECT_THAT(slerp(0.25, {4, 8}, {-4, -8}), ElementsAre(2, 4));
}

TEST(Slerp, BecomesLinearAtACosineOf0_9995) {
    // (1, 0) and (cos, sin): the arc's middle has length 1, the chord's cos(angle / 2).
    const auto lengthAtTheMiddle = [](double cosine) {
        const Floats middle =
            slerp(0.5, {1, 0}, {static_cast<float>(cosine), static_cast<float>(std::sqrt(1 - cosine * cosine))});
        return std::hypot(double{middle[0]}, double{middle[1]});
    };
    EXPECT_NEAR(lengthAtTheMiddle(0.9994), 1, 3e-7);
    EXPECT_NEAR(lengthAtTheMiddle(0.9996), std::sqrt((1 + 0.9996) / 2), 3e-7);  // 1e-4 less than 1
}

TEST(Slerp, TakesAZeroVectorAsOrthogonal) {
    EXPECT_THAT(slerp(0.5, {0, 0}, {1, 2}), ElementsAre(FloatEq(kHalfRoot), FloatEq(2 * kHalfRoot)));
    EXPECT_THAT(slerp(0.5, {0, 0}, {0, 0}), ElementsAre(0, 0));
}

TEST(Slerp, TakesOneElement) {
    EXPECT_THAT(slerp(0.5, {2}, {4}), ElementsAre(3));
}

TEST(Nuslerp, DividesTheArcByWeights) {
    EXPECT_THAT(nuslerp({2, 1}, {}, {{1, 0}, {0, 1}}), ElementsAre(FloatEq(std::sqrt(0.75f)), FloatEq(0.5f)));
    EXPECT_THAT(nuslerp({1, -1}, {}, {{1, 0}, {0, 1}}), ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot)))
        << "t is 0.5 where the weights add up to 0";
}

TEST(Nuslerp, InterpolatesChangesFromABase) {
    EXPECT_THAT(nuslerp({1, 1}, {8, 8}, {{9, 8}, {8, 9}}), ElementsAre(FloatEq(8 + kHalfRoot), FloatEq(8 + kHalfRoot)));
}

TEST(Nuslerp, IsLinearWhereColinearOrOpposite) {
    EXPECT_THAT(nuslerp({3, 1}, {}, {{4, 8}, {8, 16}}), ElementsAre(5, 10));
    EXPECT_THAT(nuslerp({3, 1}, {}, {{4, 8}, {-4, -8}}), ElementsAre(2, 4));
}

TEST(Nuslerp, TakesRowsOrColumnsAsVectors) {
    // Rows: (1, 0) with (0, 1) is an arc, (2, 0) with (4, 0) a chord. Columns: (1, 2) with (0, 4), and (0, 0) with (1, 0).
    const std::vector<Floats> inputs{{1, 0, 2, 0}, {0, 1, 4, 0}};
    const auto rows = nuslerp({1, 1}, {}, inputs, {2, 2}, false);
    EXPECT_THAT(rows, ElementsAre(FloatEq(kHalfRoot), FloatEq(kHalfRoot), 3, 0));

    const double cosine = 8 / (std::sqrt(5.0) * 4), half = 1 / (2 * std::cos(std::acos(cosine) / 2));
    const auto columns = nuslerp({1, 1}, {}, inputs, {2, 2}, false, true);
    EXPECT_THAT(columns, ElementsAre(FloatEq(static_cast<float>(half)), FloatEq(kHalfRoot),
                                     FloatEq(static_cast<float>(6 * half)), 0));
}

TEST(Multislerp, HasTheMeanDirectionAndTheMeanLength) {
    EXPECT_THAT(multislerp({1, 1}, {}, {{2, 0}, {0, 4}}), ElementsAre(FloatEq(3 * kHalfRoot), FloatEq(3 * kHalfRoot)));
    EXPECT_THAT(multislerp({1, 1}, {8, 8}, {{10, 8}, {8, 12}}),
                ElementsAre(FloatEq(8 + 3 * kHalfRoot), FloatEq(8 + 3 * kHalfRoot)));
}

TEST(Multislerp, ReturnsASingleModelUnchanged) {
    const Floats only = normalValues(999, 1, 1);
    EXPECT_EQ(bitsOf(multislerp({0.3}, {}, {only})), bitsOf(only));
    EXPECT_EQ(bitsOf(multislerp({0.3}, normalValues(999, 2, 1), {only})), bitsOf(only));
}

TEST(Multislerp, IsLinearForTwoOppositeDirections) {
    EXPECT_THAT(multislerp({1, 1}, {}, {{1, 2}, {-3, -6}}), ElementsAre(-1, -2));
    // Directions that are opposite but for the rounding of float32 and of the sums.
    const Floats a = normalValues(4099, 1, 1);
    Floats b = a, middle = a;
    for (std::size_t i = 0; i < a.size(); ++i) {
        b[i] = -3.1f * a[i];
        middle[i] = 0.5f * (a[i] + b[i]);
    }
    const Floats merged = multislerp({1, 1}, {}, {a, b});
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(merged[i], middle[i], 1e-6f * std::abs(a[i])) << i;
}

TEST(Multislerp, RefusesMoreThanTwoThatCancel) {
    for (const auto& [weights, inputs] : {std::pair<std::vector<double>, std::vector<Floats>>{{1, 1, 2}, {{1}, {2}, {-3}}},
                                          {{1, 1, -std::sqrt(2.0)}, {{1, 0}, {0, 2}, {3, 3}}}}) {
        try {
            auto values = parameters(multislerpMethod(), weights);
            setShared(multislerpMethod(), values, "normalize_weights", 0);
            combined(multislerpMethod(), values, {}, inputs);
            FAIL() << "accepted";
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), HasSubstr("weight: the directions of the 3 models cancel each other"));
        }
    }
}

TEST(Multislerp, RefusesCancellingDirectionsWhoseLengthsCancelToo) {
    auto values = parameters(multislerpMethod(), {1, 1, -2});
    setShared(multislerpMethod(), values, "normalize_weights", 0);
    EXPECT_THROW(combined(multislerpMethod(), values, {}, {{1, 1}, {2, 2}, {1.5f, 1.5f}}), InputError);
}

TEST(Multislerp, OfUnchangedModelsIsTheBase) {
    const Floats base{-0.0f, 0.5f};
    EXPECT_EQ(bitsOf(multislerp({1, 1, 1}, base, {base, base, base})), bitsOf(base));
}

TEST(Karcher, IsTheMiddleOfTheArcWithTheMeanLength) {
    EXPECT_THAT(karcher({{2, 0}, {0, 4}}), ElementsAre(FloatEq(3 * kHalfRoot), FloatEq(3 * kHalfRoot)));
    const float third = std::sqrt(1.0f / 3);
    EXPECT_THAT(karcher({{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}), ElementsAre(FloatEq(third), FloatEq(third), FloatEq(third)));
}

TEST(Karcher, LetsZeroTensorsShortenTheMean) {
    EXPECT_THAT(karcher({{0, 0}, {6, 3}}), ElementsAre(3, 1.5f));
    EXPECT_THAT(karcher({{0, 0}, {0, 0}}), ElementsAre(0, 0));
}

TEST(Karcher, OfOneOrOfEqualModelsIsThatModel) {
    const Floats only = normalValues(999, 1, 1);
    EXPECT_EQ(bitsOf(karcher({only})), bitsOf(only));
    const Floats mean = karcher({only, only, only});
    for (std::size_t i = 0; i < only.size(); ++i) ASSERT_FLOAT_EQ(mean[i], only[i]);
}

TEST(Karcher, OfOppositeModelsStartsAtTheFirst) {
    // mu = (1, 0); the other is at the angle pi, in no direction from it, so the mean stays: length (2 + 4) / 2.
    EXPECT_THAT(karcher({{2, 0}, {-4, 0}}), ElementsAre(3, 0));
}

TEST(ModelStock, GoesToTheMeanByTheAngle) {
    // Orthogonal changes: c = 0, so the base. Parallel ones: c = 1, the mean. c = 0.6: t = 1.2 / 1.6.
    EXPECT_THAT(modelStock({8, 8}, {{9, 8}, {8, 9}}), ElementsAre(8, 8));
    EXPECT_THAT(modelStock({8, 8}, {{9, 8}, {11, 8}}), ElementsAre(10, 8));
    EXPECT_THAT(modelStock({0, 0}, {{5, 0}, {3, 4}}), ElementsAre(FloatEq(3), FloatEq(1.5f)));
}

TEST(ModelStock, MovesAwayFromExpertsThatDisagree) {
    EXPECT_THAT(modelStock({0, 0}, {{5, 0}, {-3, 4}}), ElementsAre(FloatEq(-3), FloatEq(-6)));  // c = -0.6: t = -3
    EXPECT_THAT(modelStock({1, 1}, {{2, 1}, {0, 1}}), ElementsAre(1, 1)) << "1 + c = 0";
}

TEST(ModelStock, TakesAnAnglePerRow) {
    const Floats base(4), a{1, 0, 1, 0}, b{0, 1, 3, 0};
    EXPECT_THAT(modelStock(base, {a, b}, {2, 2}, true), ElementsAre(0, 0, 2, 0));
    EXPECT_THAT(modelStock(base, {a, b}, {4}, true), modelStock(base, {a, b}, {4}));
}

TEST(ModelStock, HasAFloorUnderTheProductOfNorms) {
    // Parallel changes of 2^-11: the product of norms is 2^-22, less than 1e-6, so c = 2^-22 / 1e-6 rather than 1.
    const double c = 0x1p-22 / 1e-6, t = 2 * c / (1 + c);
    EXPECT_THAT(modelStock({0}, {{0x1p-11f}, {0x1p-11f}}), ElementsAre(FloatEq(static_cast<float>(t * 0x1p-11))));
}

// The definitions, literally.

using Vector = std::vector<double>;
using VectorMerge = std::function<Vector(const Vector& base, const std::vector<Vector>& inputs)>;

double dot(const Vector& a, const Vector& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}
double length(const Vector& a) {
    return std::sqrt(dot(a, a));
}
/// a + factor b
Vector plus(Vector a, double factor, const Vector& b) {
    for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
    return a;
}
Vector times(double factor, const Vector& a) {
    return plus(Vector(a.size()), factor, a);
}

Vector arc(double t, const Vector& a, const Vector& b, double linearFrom) {
    const double cosine = std::clamp(dot(a, b) / (length(a) * length(b)), -1.0, 1.0), phi = std::acos(cosine);
    if (std::abs(cosine) > linearFrom) return plus(times(1 - t, a), t, b);
    return plus(times(std::sin((1 - t) * phi) / std::sin(phi), a), std::sin(t * phi) / std::sin(phi), b);
}

Vector slerpByDefinition(const Vector& base, const std::vector<Vector>& inputs) {
    return arc(0.3, base, inputs[0], 0.9995);
}

/// t = 0.6 / (0.6 + 0.4). @param base empty: none
Vector nuslerpByDefinition(const Vector& base, const std::vector<Vector>& inputs) {
    const double colinearFrom = 1 - 0x1p-25;
    if (base.empty()) return arc(0.4, inputs[0], inputs[1], colinearFrom);
    return plus(arc(0.4, plus(inputs[0], -1, base), plus(inputs[1], -1, base), colinearFrom), 1, base);
}

/// Weights 0.5, 0.3, 0.2; through the tangent plane.
Vector multislerpByDefinition(double eps, const Vector& base, const std::vector<Vector>& inputs) {
    const Vector weights{0.5, 0.3, 0.2};
    std::vector<Vector> units;
    Vector mean(inputs[0].size()), tangent(inputs[0].size());
    double radius = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const Vector change = base.empty() ? inputs[i] : plus(inputs[i], -1, base);
        units.push_back(times(1 / (length(change) + eps), change));
        mean = plus(mean, weights[i], units[i]);
        radius += weights[i] * length(change);
    }
    mean = times(1 / length(mean), mean);
    for (std::size_t i = 0; i < inputs.size(); ++i)
        tangent = plus(tangent, weights[i], plus(units[i], -dot(units[i], mean), mean));
    const double h = length(tangent) + eps;
    const Vector merged = times(radius, plus(times(std::cos(h), mean), std::sin(h) / h, tangent));
    return base.empty() ? merged : plus(merged, 1, base);
}

Vector karcherByDefinition(const Vector&, const std::vector<Vector>& inputs) {
    const double share = 1.0 / static_cast<double>(inputs.size());
    Vector mean(inputs[0].size());
    double radius = 0;
    for (const Vector& input : inputs) {
        mean = plus(mean, share / length(input), input);
        radius += share * length(input);
    }
    mean = times(1 / length(mean), mean);
    for (int iteration = 0; iteration < 10; ++iteration) {
        Vector tangent(mean.size());
        for (const Vector& input : inputs) {
            const double cosine = std::clamp(dot(mean, input) / length(input), -1.0, 1.0), angle = std::acos(cosine);
            if (angle < 1e-5) continue;
            tangent = plus(tangent, share * angle / std::sin(angle), plus(times(1 / length(input), input), -cosine, mean));
        }
        const double step = length(tangent);
        if (step < 1e-5) break;
        mean = plus(times(std::cos(step), mean), std::sin(step) / step, tangent);
        mean = times(1 / length(mean), mean);
    }
    return times(radius, mean);
}

Vector modelStockByDefinition(const Vector& base, const std::vector<Vector>& inputs) {
    Vector merged(base.size());
    double cosines = 0;
    for (std::size_t i = 0; i < 3; ++i) {
        merged = plus(merged, 1.0 / 3, inputs[i]);
        for (std::size_t j = i + 1; j < 3; ++j) {
            const Vector a = plus(inputs[i], -1, base), b = plus(inputs[j], -1, base);
            cosines += std::clamp(dot(a, b) / std::max(length(a) * length(b), 1e-6), -1.0, 1.0) / 3;
        }
    }
    const double t = 3 * cosines / (1 + 2 * cosines);
    return plus(times(t, merged), 1 - t, base);
}

/// Elements of a tensor that make up one vector each.
std::vector<std::vector<std::size_t>> vectorsOf(const Shape& shape, Along along) {
    const auto elements = static_cast<std::size_t>(elementCount(shape));
    const bool isOne = along == Along::Tensor || shape.size() < 2;
    const auto columns = static_cast<std::size_t>(along == Along::Rows ? shape.back() : elementCount(shape) / shape.front());
    std::map<std::size_t, std::vector<std::size_t>> vectors;
    for (std::size_t e = 0; e < elements; ++e)
        vectors[isOne ? 0 : along == Along::Rows ? e / columns : e % columns].push_back(e);
    std::vector<std::vector<std::size_t>> list;
    for (auto& [position, members] : vectors) list.push_back(std::move(members));
    return list;
}

struct Definition {
    friend void PrintTo(const Definition& definition, std::ostream* out) { *out << definition.name; }

    std::string name;
    const Method* method;
    std::size_t inputs;
    bool hasBase;
    Along along;
    ResolvedParameters values;
    VectorMerge merge;
};

std::vector<Definition> definitions() {
    const ResolvedParameters slerpValues{.shared = {0.3}, .perInput = {{}}};
    std::vector<Definition> list{
        {"slerp", &slerpMethod(), 1, true, Along::Tensor, slerpValues, slerpByDefinition},
        {"karcher", &karcherMethod(), 3, false, Along::Tensor, parameters(karcherMethod(), {1, 1, 1}), karcherByDefinition}};
    for (const bool hasBase : {false, true}) {
        const std::string suffix = hasBase ? "_of_changes" : "";
        for (const double eps : {1e-8, 0.01}) {
            auto values = parameters(multislerpMethod(), {0.5, 0.3, 0.2});
            setShared(multislerpMethod(), values, "eps", eps);
            list.push_back({(eps < 1e-3 ? "multislerp" : "multislerp_with_eps") + suffix, &multislerpMethod(), 3, hasBase,
                            Along::Tensor, values, std::bind_front(multislerpByDefinition, eps)});
        }
        for (const Along along : {Along::Tensor, Along::Rows, Along::Columns}) {
            auto values = parameters(nuslerpMethod(), {0.6, 0.4});
            setShared(nuslerpMethod(), values, "nuslerp_flatten", along == Along::Tensor);
            setShared(nuslerpMethod(), values, "nuslerp_row_wise", along == Along::Columns);
            const char* const names[]{"nuslerp", "nuslerp_by_row", "nuslerp_by_column"};
            list.push_back(
                {names[static_cast<int>(along)] + suffix, &nuslerpMethod(), 2, hasBase, along, values, nuslerpByDefinition});
        }
    }
    for (const Along along : {Along::Tensor, Along::Rows}) {
        auto values = parameters(modelStockMethod(), {1, 1, 1});
        setShared(modelStockMethod(), values, "filter_wise", along == Along::Rows);
        list.push_back({along == Along::Rows ? "model_stock_by_row" : "model_stock", &modelStockMethod(), 3, true, along,
                        values, modelStockByDefinition});
    }
    return list;
}

class SphereMethods : public testing::TestWithParam<Definition> {};
INSTANTIATE_TEST_SUITE_P(, SphereMethods, testing::ValuesIn(definitions()),
                         [](const auto& test) { return test.param.name; });

TEST_P(SphereMethods, AreTheirDefinitions) {
    const Definition& definition = GetParam();
    for (const Shape& shape : {Shape{31}, Shape{7, 13}, Shape{13, 7}, Shape{1, 29}, Shape{3, 5, 7}, Shape{1031, 131}}) {
        const auto elements = static_cast<std::size_t>(elementCount(shape));
        const Floats base = definition.hasBase ? normalValues(elements, 1, 1) : Floats{};
        const Floats common = normalValues(elements, 2, 1);
        std::vector<Floats> inputs;
        for (std::size_t i = 0; i < definition.inputs;
             ++i) {  // positive cosines: nothing cancels, and no coefficient is large
            inputs.push_back(normalValues(elements, 3 + i, 0.5f));
            for (std::size_t e = 0; e < elements; ++e) inputs[i][e] += common[e] + (base.empty() ? 0 : base[e]);
        }

        const Floats merged = combined(*definition.method, definition.values, base, inputs, 2, shape);

        for (const std::vector<std::size_t>& members : vectorsOf(shape, definition.along)) {
            const auto vectorOf = [&](const Floats& values) {
                Vector vector;
                if (!values.empty())
                    for (const std::size_t e : members) vector.push_back(values[e]);
                return vector;
            };
            std::vector<Vector> vectors;
            for (const Floats& input : inputs) vectors.push_back(vectorOf(input));
            const Vector expected = definition.merge(vectorOf(base), vectors);
            // Values and their differences are below 8, coefficients below 2; per input a coefficient, a difference, a
            // product and a sum are rounded, each by at most 2^-24 of a number below 16, and two more after them.
            for (std::size_t i = 0; i < members.size(); ++i)
                ASSERT_NEAR(merged[members[i]], expected[i], (4.0 * static_cast<double>(inputs.size()) + 2) * 16 * 0x1p-24)
                    << shapeText(shape) << " element " << members[i];
        }
    }
}

}  // namespace
}  // namespace aimerge
