#include "merge/methods/arcee_fusion.h"

#include "merge/combine/exponential.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

const ResolvedParameters kNone;

TEST(Exponential, IsThatOfTheLibraryToAFewUnits) {
    for (double x = -700; x <= 700; x += 0.37) EXPECT_NEAR(exponential(x) / std::exp(x), 1, 1e-15) << x;
    EXPECT_EQ(exponential(0), 1);
    EXPECT_LT(exponential(-1e6), 1e-300);
}

TEST(LogarithmOfRatio, IsAccurateRelativeToItsSize) {
    for (double ratio = 1e-8; ratio < 1e8; ratio *= 1.37) {
        const double expected = std::log(ratio);
        EXPECT_NEAR(logarithmOfRatio(ratio, 1), expected, 2e-15 * std::abs(expected) + 1e-16) << ratio;
        EXPECT_NEAR(logarithmOfRatio(1, ratio), -expected, 2e-15 * std::abs(expected) + 1e-16) << ratio;
    }
    EXPECT_NEAR(logarithmOfRatio(1 + 0x1p-40, 1), std::log1p(0x1p-40), 1e-27);
    EXPECT_EQ(logarithmOfRatio(0.3, 0.3), 0);
}

TEST(Float32Series, AreAccurateRelativeToTheirSize) {
    for (float x = -1; x <= 1; x += 1.0f / 117) EXPECT_NEAR(exponentialWithinOne(x) / std::exp(double{x}), 1, 3e-7) << x;
    for (float x = -kNearZero; x <= kNearZero; x += kNearZero / 116.5f) {
        EXPECT_NEAR(exponentialMinusOneNearZero(x) / std::expm1(double{x}), 1, 3e-7) << x;
        const auto u = static_cast<float>(std::expm1(2 * double{x}));
        const double expected = (1 + double{u}) * std::log1p(double{u}) - double{u};
        EXPECT_NEAR(excessOfLogarithmNearOne(u) / expected, 1, 4e-7) << u;
    }
    EXPECT_EQ(exponentialWithinOne(0), 1);
    EXPECT_EQ(exponentialMinusOneNearZero(0), 0);
    EXPECT_EQ(excessOfLogarithmNearOne(0), 0);
}

TEST(ArceeFusion, TakesWhatLiesFarAboveTheQuartiles) {
    // One row: I is |x - b| times a constant. Of 1 2 3 4 and the last: q = 2 3 4, h = 6.
    EXPECT_THAT(combined(arceeFusionMethod(), kNone, {0, 0, 0, 0, 0}, {{7, 1, 2, 3, 4}}), ElementsAre(7, 0, 0, 0, 0));
    EXPECT_THAT(combined(arceeFusionMethod(), kNone, {0, 0, 0, 0, 0}, {{5, 1, 2, 3, 4}}), ElementsAre(0, 0, 0, 0, 0));
}

TEST(ArceeFusion, TakesAllWhereMostIsUnchanged) {
    EXPECT_THAT(combined(arceeFusionMethod(), kNone, {0, 0, 0, 0, 0}, {{1, 0, 0, 0, 0}}), ElementsAre(1, 0, 0, 0, 0));
}

/// The definition as it stands, with the library's functions.
std::vector<double> importances(const Floats& base, const Floats& other, std::size_t columns) {
    std::vector<double> importance(base.size());
    for (std::size_t row = 0; row < base.size() / columns; ++row) {
        long double sumOther = 0, sumBase = 0, divergence = 0;
        for (std::size_t c = 0; c < columns; ++c) {
            sumOther += std::exp(static_cast<long double>(other[row * columns + c]));
            sumBase += std::exp(static_cast<long double>(base[row * columns + c]));
        }
        for (std::size_t c = 0; c < columns; ++c) {
            const long double p = std::exp(static_cast<long double>(other[row * columns + c])) / sumOther + 1e-8L;
            const long double q = std::exp(static_cast<long double>(base[row * columns + c])) / sumBase + 1e-8L;
            divergence += p * std::log(p / q);
        }
        for (std::size_t c = 0; c < columns; ++c) {
            const std::size_t at = row * columns + c;
            importance[at] = std::abs(double{other[at]} - double{base[at]}) * static_cast<double>(divergence);
        }
    }
    return importance;
}

struct Spread {
    float base, change;  // standard deviations
};

class ArceeFusionOfChanges : public testing::TestWithParam<Spread> {};

TEST_P(ArceeFusionOfChanges, IsTheDefinition) {
    for (const Shape& shape : {Shape{37, 53}, Shape{1, 101}, Shape{300, 401}}) {
        const auto elements = static_cast<std::size_t>(elementCount(shape));
        const Floats base = normalValues(elements, 1, GetParam().base);
        Floats other = normalValues(elements, 2, GetParam().change);
        for (std::size_t i = 0; i < elements; ++i) other[i] += base[i];
        const std::vector<double> importance = importances(base, other, static_cast<std::size_t>(shape[1]));
        std::vector<double> sorted = importance;
        std::ranges::sort(sorted);
        const auto quantile = [&](double z) {
            return sorted[static_cast<std::size_t>(z * static_cast<double>(elements - 1))];
        };
        const double threshold = quantile(0.5) + 1.5 * (quantile(0.75) - quantile(0.25));

        const Floats out = combined(arceeFusionMethod(), kNone, base, {other}, 2, shape);

        // float32 has kappa and its terms, |x - b|, their product and h: some roundings of 6e-8.
        for (std::size_t i = 0; i < elements; ++i) {
            if (std::abs(importance[i] - threshold) < 4e-7 * threshold) continue;
            ASSERT_EQ(out[i], importance[i] >= threshold ? other[i] : base[i]) << i << " of " << shapeText(shape);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(SmallAndLarge, ArceeFusionOfChanges,
                         testing::Values(Spread{0.02f, 0.002f}, Spread{0.1f, 0.006f}, Spread{0.5f, 0.002f},
                                         Spread{0.5f, 0.01f}, Spread{0.1f, 0.3f}));

}  // namespace
}  // namespace aimerge
