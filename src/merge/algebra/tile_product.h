#pragma once
// The product of two tiles, under all the dense linear algebra of this room. Every element's sum runs over k in ascending
// order with a rounding after each product, so vector width and register blocking leave the bits alone.

#include "merge/algebra/tile_matrix.h"

#include <array>

namespace aimerge {

enum class Transposed : bool { No, Yes };

/// The right factor of tile products, rearranged so that the kernel reads it from front to back.
template <typename Real>
class PackedTile {
public:
    static constexpr std::int64_t kStripColumns = 128 / sizeof(Real);  // two 512-bit registers

    void pack(const Real* tile, Transposed transposed);
    const Real* strip(std::int64_t firstColumn) const { return values_.data() + firstColumn * kTile; }

private:
    alignas(64) std::array<Real, kTileElements> values_;
};

enum class Sign { Plus, Minus };

/// sum += sign a b, tile by tile, row-major. The kTile products of an element are added up in Real,
/// that sum to `sum` in float64.
/// @param transposed whether `a` points to the transpose of the left factor
template <typename Real>
void addProduct(const Real* a, Transposed transposed, const PackedTile<Real>& b, Sign sign, double* sum);

}  // namespace aimerge
