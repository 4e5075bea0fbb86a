#pragma once
// The decoder's row-wise arithmetic over raw memory: each call handles the rows it is given on the calling thread,
// and a row's result depends on that row alone, so rows may be shared out over any number of threads. BF16
// elements are their bit patterns.

#include "model/row_arithmetic.h"

#include <cstdint>

namespace aimerge::kernels {

/// out = weight * cast(x / sqrt(mean(x^2) + eps)), the bracket in float32, the product in the element type. [rows, channels]
void rmsNorm(const float* x, const float* weight, float* out, std::int64_t rows, std::int64_t channels, float eps);
void rmsNorm(const Bf16* x, const Bf16* weight, Bf16* out, std::int64_t rows, std::int64_t channels, float eps);

/// out = x * scale * factor, rounded once. scales: [rows]; factors: [channels]
void scaleRows(const float* x, const float* scales, const float* factors, float* out, std::int64_t rows,
               std::int64_t channels);
void scaleRows(const Bf16* x, const float* scales, const float* factors, Bf16* out, std::int64_t rows,
               std::int64_t channels);

/// The gradients of rmsNorm with these factors [channels], from the gradient with respect to its output [rows, channels]:
/// with respect to x, rounded once, and with respect to the factors [channels], summed over the rows in their order.
void rmsNormGradient(const float* x, const float* factors, const float* gradient, float* byX, float* byFactors,
                     std::int64_t rows, std::int64_t channels, float eps);
void rmsNormGradient(const Bf16* x, const float* factors, const Bf16* gradient, Bf16* byX, float* byFactors,
                     std::int64_t rows, std::int64_t channels, float eps);

/// Rotates every head of every row in place: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), each product and the sum
/// rounded to the element type. rows: [rows, heads, headDim], of which the first 2 half of a head are rotated: channels i
/// and i + half, or, interleaved, 2 i and 2 i + 1; row r has position (firstRow + r) % length; cosines, sines: [length, half].
struct Rotation {
    const float* cosines;
    const float* sines;
    std::int64_t length, heads, headDim, half;
    bool isInterleaved = false;
};
void rotate(float* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation);
void rotate(Bf16* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation);

}  // namespace aimerge::kernels
