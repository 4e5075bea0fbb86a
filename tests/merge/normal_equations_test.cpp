#include "merge/algebra/normal_equations.h"

#include "aimerge/core/random.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/algebra/tile_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

namespace aimerge {
namespace {

/// Whole numbers from -2 to 2: all products and sums here are exact.
double wholeNumber(std::uint64_t stream, std::int64_t index) {
    const RandomStream random{.seed = 3, .stream = stream};
    return static_cast<double>(random.block(static_cast<std::uint64_t>(index)).word[0] % 5) - 2;
}

template <typename Real>
class TileProduct : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(TileProduct, Reals);

TYPED_TEST(TileProduct, IsExactOverWholeNumbers) {
    std::vector<TypeParam> a(kTileElements), b(kTileElements);
    for (std::size_t i = 0; i < kTileElements; ++i) {
        a[i] = static_cast<TypeParam>(wholeNumber(1, static_cast<std::int64_t>(i)));
        b[i] = static_cast<TypeParam>(wholeNumber(2, static_cast<std::int64_t>(i)));
    }
    const auto packed = std::make_unique<PackedTile<TypeParam>>();

    for (const InstructionSet set : {InstructionSet::Baseline, InstructionSet::Avx2, bestInstructionSet()}) {
        limitInstructionSet(set);
        for (const Transposed left : {Transposed::No, Transposed::Yes}) {
            for (const Transposed right : {Transposed::No, Transposed::Yes}) {
                std::vector<double> sum(kTileElements, 7);
                packed->pack(b.data(), right);
                addProduct(a.data(), left, *packed, Sign::Minus, sum.data());
                for (std::size_t r = 0; r < kTile; r += 9) {
                    for (std::size_t c = 0; c < kTile; ++c) {
                        double expected = 7;
                        for (std::size_t k = 0; k < kTile; ++k)
                            expected -= double{left == Transposed::Yes ? a[k * kTile + r] : a[r * kTile + k]} *
                                        double{right == Transposed::Yes ? b[c * kTile + k] : b[k * kTile + c]};
                        ASSERT_EQ(sum[r * kTile + c], expected) << r << ' ' << c;
                    }
                }
            }
        }
    }
    limitInstructionSet(bestInstructionSet());
}

/// Symmetric, and definite: the off-diagonal elements of a row add up to less than half of the diagonal one.
double dominant(std::int64_t order, std::int64_t row, std::int64_t column) {
    if (row == column) return static_cast<double>(8 * order);
    return wholeNumber(4, std::min(row, column) * order + std::max(row, column));
}

struct Size {
    std::int64_t rows, order;
};
class SolutionOf : public testing::TestWithParam<Size> {};
INSTANTIATE_TEST_SUITE_P(, SolutionOf,
                         testing::Values(Size{1, 1}, Size{7, 13}, Size{3, 127}, Size{5, 128}, Size{129, 129}, Size{2, 300}));

TEST_P(SolutionOf, MultipliedByTheMatrixIsTheRightHandSide) {
    const auto [rows, order] = GetParam();
    UpperTiles<double> s(order);
    for (std::int64_t r = 0; r < order; ++r)
        for (std::int64_t c = r / kTile * kTile; c < order; ++c)
            s.tile(r / kTile, c / kTile)[(r % kTile) * kTile + c % kTile] = dominant(order, r, c);
    TileMatrix<double> n(rows, order);
    n.forStretches(0, rows * order, [&, order = order](double* values, std::int64_t index, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
            values[i] = 0;
            for (std::int64_t k = 0; k < order; ++k)
                values[i] += wholeNumber(5, (index + i) / order * order + k) * dominant(order, k, (index + i) % order);
        }
    });
    ThreadPool threads(3);

    ASSERT_EQ(solveInPlace(s, n, threads), std::nullopt);

    // The condition number is below 3, so the error is a few roundings of sums of `order` terms.
    const double tolerance = 32 * static_cast<double>(order) * 0x1p-53;
    n.forStretches(0, rows * order, [&](const double* values, std::int64_t index, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) ASSERT_NEAR(values[i], wholeNumber(5, index + i), tolerance) << index + i;
    });
}

TEST(Solution, NamesTheRowAtWhichTheMatrixIsSingular) {
    for (const std::int64_t bad : {0, 127, 128, 140}) {
        UpperTiles<double> s(141);
        for (std::int64_t i = 0; i < 141; ++i) s.diagonal(i) = i == bad ? 0 : 1;
        TileMatrix<double> n(1, 141);
        ThreadPool threads(1);
        EXPECT_EQ(solveInPlace(s, n, threads), bad);
    }
}

TEST(Solution, TakesWhatRoundingLeavesForSingular) {
    UpperTiles<double> s(2);  // [1 1; 1 1+2^-23]
    s.diagonal(0) = s.tile(0, 0)[1] = s.tile(0, 0)[kTile] = 1;
    s.diagonal(1) = 1 + 0x1p-23;
    TileMatrix<double> n(1, 2);
    ThreadPool threads(1);
    EXPECT_EQ(solveInPlace(s, n, threads), 1);
}

}  // namespace
}  // namespace aimerge
