#pragma once
// values[i, j] += scaling * sum_r left[i, r] right[r, j], for any stretch of a matrix in rows. Each sum runs over r in
// ascending order with fused multiply-adds and is scaled afterwards, so an element's bits depend on nothing but the factors.
//
// Four rows and four values of r at a time: each value of `right` that is loaded serves four multiply-adds, and the sums of
// a tile stay in the first-level cache.

#include <cstddef>
#include <span>
#include <vector>

namespace aimerge {

struct LowRankFactors {
    std::vector<float> left;   // [rows, rank]
    std::vector<float> right;  // [rank, columns]
    std::size_t rank = 0;
    std::size_t columns = 0;
    float scaling = 1;
};

/// Rows of a matrix that are worked on together.
inline constexpr std::size_t kLowRankTileRows = 4;
/// And columns.
inline constexpr std::size_t kLowRankTileColumns = 512;

/// Rows [firstRow, firstRow + rows), columns [firstColumn, firstColumn + columns).
struct LowRankTile {
    std::size_t firstRow = 0, rows = 0;
    std::size_t firstColumn = 0, columns = 0;
};

/// @param values kLowRankTileColumns apart from row to row
/// @pre 1 <= tile.rows <= kLowRankTileRows, tile.columns <= kLowRankTileColumns
void addLowRank(const LowRankFactors& factors, const LowRankTile& tile, std::span<float> values);

}  // namespace aimerge
