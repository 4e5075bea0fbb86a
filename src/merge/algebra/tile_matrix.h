#pragma once
// Matrices of one linear layer cut into square tiles, each contiguous and row-major, padded with zeros at the right and at
// the bottom: whatever multiplies them works on whole tiles only.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace aimerge {

inline constexpr std::int64_t kTile = 128;
inline constexpr std::size_t kTileElements = kTile * kTile;

inline std::int64_t tilesOf(std::int64_t length) {
    return (length + kTile - 1) / kTile;
}

/// [rows, columns], zero to begin with.
template <typename Real>
class TileMatrix {
public:
    TileMatrix(std::int64_t rows, std::int64_t columns)
        : columns_(columns), tileRows_(tilesOf(rows)), tileColumns_(tilesOf(columns)), values_(elementsOf(rows, columns)) {}

    std::int64_t tileRows() const { return tileRows_; }
    std::int64_t tileColumns() const { return tileColumns_; }
    Real* tile(std::int64_t row, std::int64_t column) { return values_.data() + offsetOf(row, column); }
    const Real* tile(std::int64_t row, std::int64_t column) const { return values_.data() + offsetOf(row, column); }

    /// Calls visit(values, index, count) for the stretches that are contiguous here of the row-major elements
    /// [first, first + count): `values` points to those from `index` on.
    template <typename Visit>
    void forStretches(std::int64_t first, std::int64_t count, const Visit& visit) {
        for (std::int64_t at = first; at < first + count;) {
            const std::int64_t row = at / columns_, column = at % columns_;
            const std::int64_t length = std::min({first + count - at, columns_ - column, kTile - column % kTile});
            visit(tile(row / kTile, column / kTile) + (row % kTile) * kTile + column % kTile, at, length);
            at += length;
        }
    }

    static std::uint64_t bytes(std::int64_t rows, std::int64_t columns) { return elementsOf(rows, columns) * sizeof(Real); }

private:
    static std::size_t elementsOf(std::int64_t rows, std::int64_t columns) {
        return static_cast<std::size_t>(tilesOf(rows) * tilesOf(columns)) * kTileElements;
    }
    std::size_t offsetOf(std::int64_t row, std::int64_t column) const {
        return static_cast<std::size_t>(row * tileColumns_ + column) * kTileElements;
    }

    std::int64_t columns_, tileRows_, tileColumns_;
    std::vector<Real> values_;
};

/// The tiles on and above the diagonal of a symmetric matrix, or an upper triangular one; zero to begin with.
template <typename Real>
class UpperTiles {
public:
    explicit UpperTiles(std::int64_t order) : order_(order), values_(countOf(order) * kTileElements) {}

    std::int64_t order() const { return order_; }
    std::int64_t tileRows() const { return tilesOf(order_); }
    std::size_t tiles() const { return countOf(order_); }

    /// @pre row <= column
    Real* tile(std::int64_t row, std::int64_t column) { return tile(numberOf(row, column)); }
    const Real* tile(std::int64_t row, std::int64_t column) const { return tile(numberOf(row, column)); }
    Real* tile(std::size_t number) { return values_.data() + number * kTileElements; }
    const Real* tile(std::size_t number) const { return values_.data() + number * kTileElements; }
    Real& diagonal(std::int64_t index) { return tile(index / kTile, index / kTile)[(index % kTile) * (kTile + 1)]; }

    static std::uint64_t bytes(std::int64_t order) { return countOf(order) * kTileElements * sizeof(Real); }

private:
    static std::size_t countOf(std::int64_t order) {
        return static_cast<std::size_t>(tilesOf(order) * (tilesOf(order) + 1) / 2);
    }
    static std::size_t numberOf(std::int64_t row, std::int64_t column) {
        return static_cast<std::size_t>(column * (column + 1) / 2 + row);
    }

    std::int64_t order_;
    std::vector<Real> values_;
};

}  // namespace aimerge
