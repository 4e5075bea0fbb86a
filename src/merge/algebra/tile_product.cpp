#include "merge/algebra/tile_product.h"

#include "aimerge/merge/element_wise.h"
#include "merge/combine/vectorised.h"

#include <cstddef>

namespace aimerge {
namespace {

template <typename Real, int kBytes>
struct VectorOf {
    typedef Real Type __attribute__((vector_size(kBytes), may_alias));
};

/// kRows rows by two registers of columns, held in registers over all of k. @param b a strip, from the first column on
template <int kRows, int kVectorBytes, typename Real>
AIMERGE_KERNEL void multiplyBlock(const Real* a, std::ptrdiff_t rowStep, std::ptrdiff_t step, const Real* b, double sign,
                                  double* sum) {
    using Vector = typename VectorOf<Real, kVectorBytes>::Type;
    constexpr std::ptrdiff_t kLanes = kVectorBytes / sizeof(Real), kStrip = PackedTile<Real>::kStripColumns;
    Vector left[kRows] = {}, right[kRows] = {};
    for (std::ptrdiff_t k = 0; k < kTile; ++k) {
        const Vector b0 = *reinterpret_cast<const Vector*>(b + k * kStrip);
        const Vector b1 = *reinterpret_cast<const Vector*>(b + k * kStrip + kLanes);
#pragma GCC unroll 8
        for (int row = 0; row < kRows; ++row) {
            const Real x = a[row * rowStep + k * step];
            left[row] += x * b0;
            right[row] += x * b1;
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; ++row) {
        alignas(kVectorBytes) Real values[2 * kLanes];
        *reinterpret_cast<Vector*>(values) = left[row];
        *reinterpret_cast<Vector*>(values + kLanes) = right[row];
        for (std::ptrdiff_t lane = 0; lane < 2 * kLanes; ++lane)
            sum[row * kTile + lane] += sign * static_cast<double>(values[lane]);
    }
}

template <int kRows, int kVectorBytes, typename Real>
AIMERGE_KERNEL void multiplyTile(const Real* a, std::ptrdiff_t rowStep, std::ptrdiff_t step, const PackedTile<Real>& b,
                                 double sign, double* sum) {
    constexpr std::int64_t kColumns = 2 * kVectorBytes / sizeof(Real), kStrip = PackedTile<Real>::kStripColumns;
    for (std::int64_t strip = 0; strip < kTile; strip += kStrip)
        for (std::int64_t column = 0; column < kStrip; column += kColumns)
            for (std::int64_t row = 0; row < kTile; row += kRows)
                multiplyBlock<kRows, kVectorBytes>(a + row * rowStep, rowStep, step, b.strip(strip) + column, sign,
                                                   sum + row * kTile + strip + column);
}

}  // namespace

template <typename Real>
void PackedTile<Real>::pack(const Real* tile, Transposed transposed) {
    for (std::int64_t first = 0; first < kTile; first += kStripColumns) {
        Real* const strip = values_.data() + first * kTile;
        if (transposed == Transposed::No) {
            for (std::int64_t k = 0; k < kTile; ++k)
                for (std::int64_t c = 0; c < kStripColumns; ++c) strip[k * kStripColumns + c] = tile[k * kTile + first + c];
        } else {
            for (std::int64_t k = 0; k < kTile; ++k)
                for (std::int64_t c = 0; c < kStripColumns; ++c)
                    strip[k * kStripColumns + c] = tile[(first + c) * kTile + k];
        }
    }
}

// 16 accumulators where there are 32 registers, 8 where there are 16.
template <typename Real>
void addProduct(const Real* a, Transposed transposed, const PackedTile<Real>& b, Sign sign, double* sum) {
    const std::ptrdiff_t rowStep = transposed == Transposed::Yes ? 1 : kTile;
    const std::ptrdiff_t step = transposed == Transposed::Yes ? kTile : 1;
    const double factor = sign == Sign::Plus ? 1 : -1;
    const PackedTile<Real>* const right = &b;
    switch (instructionSet()) {
        case InstructionSet::Avx512:
            return runAvx512([=]() AIMERGE_INLINE_BODY { multiplyTile<8, 64>(a, rowStep, step, *right, factor, sum); });
        case InstructionSet::Avx2:
            return runAvx2([=]() AIMERGE_INLINE_BODY { multiplyTile<4, 32>(a, rowStep, step, *right, factor, sum); });
        case InstructionSet::Baseline:
            break;
    }
    runBaseline([=]() AIMERGE_INLINE_BODY { multiplyTile<4, 16>(a, rowStep, step, *right, factor, sum); });
}

template class PackedTile<float>;
template class PackedTile<double>;
template void addProduct(const float*, Transposed, const PackedTile<float>&, Sign, double*);
template void addProduct(const double*, Transposed, const PackedTile<double>&, Sign, double*);

}  // namespace aimerge
