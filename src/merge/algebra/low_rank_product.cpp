#include "merge/algebra/low_rank_product.h"

#include "aimerge/core/host_device.h"
#include "aimerge/merge/element_wise.h"
#include "merge/combine/vectorised.h"

#include <cmath>
#include <type_traits>

namespace aimerge {
namespace {

constexpr std::size_t kTile = kLowRankTileColumns;
constexpr std::size_t kRanksAtOnce = 4;

/// sums[i, j] += left[i, 0..kRanks) right[0..kRanks, j), in ascending order.
/// @param rank, @param columns distances between the rows of `left` and `right`
template <std::size_t kRows, std::size_t kRanks>
AIMERGE_KERNEL void addProducts(const float* left, std::size_t rank, const float* right, std::size_t columns,
                                std::size_t width, float* sums) {
    float coefficients[kRows][kRanks];
    for (std::size_t i = 0; i < kRows; ++i)
        for (std::size_t r = 0; r < kRanks; ++r) coefficients[i][r] = left[i * rank + r];
#pragma GCC ivdep
    for (std::size_t j = 0; j < width; ++j) {
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kRows; ++i) {
            float sum = sums[i * kTile + j];
#pragma GCC unroll 4
            for (std::size_t r = 0; r < kRanks; ++r) sum = std::fma(coefficients[i][r], right[r * columns + j], sum);
            sums[i * kTile + j] = sum;
        }
    }
}

template <std::size_t kRows>
void addTile(const LowRankFactors& factors, const LowRankTile& tile, float* values) {
    const float* const left = factors.left.data() + tile.firstRow * factors.rank;
    const float* const right = factors.right.data() + tile.firstColumn;
    const std::size_t rank = factors.rank, columns = factors.columns, width = tile.columns;
    const float scaling = factors.scaling;
    vectorised([=]() AIMERGE_INLINE_BODY {
        float sums[kRows * kTile];
        for (std::size_t i = 0; i < kRows * kTile; ++i) sums[i] = 0;
        std::size_t r = 0;
        for (; r + kRanksAtOnce <= rank; r += kRanksAtOnce)
            addProducts<kRows, kRanksAtOnce>(left + r, rank, right + r * columns, columns, width, sums);
        for (; r < rank; ++r) addProducts<kRows, 1>(left + r, rank, right + r * columns, columns, width, sums);
        for (std::size_t i = 0; i < kRows; ++i)
            for (std::size_t j = 0; j < width; ++j) values[i * kTile + j] += scaling * sums[i * kTile + j];
    });
}

}  // namespace

void addLowRank(const LowRankFactors& factors, const LowRankTile& tile, std::span<float> values) {
    switch (tile.rows) {
        case 1:
            return addTile<1>(factors, tile, values.data());
        case 2:
            return addTile<2>(factors, tile, values.data());
        case 3:
            return addTile<3>(factors, tile, values.data());
        default:
            return addTile<kLowRankTileRows>(factors, tile, values.data());
    }
}

}  // namespace aimerge
