#include "model/row_kernels.h"

#include "aimerge/model/cpu_clones.h"

#include <array>
#include <cmath>

namespace aimerge::kernels {
namespace {

// Bodies are inlined into the clones below, so that each is compiled for its processor.
#define AIMERGE_BODY [[gnu::always_inline]] inline

/// Sum of squares over 16 running sums, which a vector register or two hold, added up in a fixed order.
template <typename Element>
AIMERGE_BODY float sumOfSquares(const Element* x, std::int64_t channels) {
    constexpr std::int64_t kLanes = 16;
    std::array<float, kLanes> lanes{};
    std::int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            const float value = widen(x[c + lane]);
            lanes[lane] += value * value;
        }
    for (; c < channels; ++c) lanes[c % kLanes] += widen(x[c]) * widen(x[c]);
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2)
        for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

template <typename Element>
AIMERGE_BODY void rmsNormBody(const Element* x, const Element* weight, Element* out, std::int64_t rows,
                              std::int64_t channels, float eps) {
    for (std::int64_t row = 0; row < rows; ++row, x += channels, out += channels) {
        const float mean = sumOfSquares(x, channels) / static_cast<float>(channels);
        const float scale = 1.0f / std::sqrt(mean + eps);
        for (std::int64_t c = 0; c < channels; ++c) out[c] = normalised(x[c], weight[c], scale);
    }
}

template <typename Element>
AIMERGE_BODY void rotateBody(Element* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation) {
    const std::int64_t half = rotation.half;
    for (std::int64_t row = 0; row < rowCount; ++row) {
        const std::int64_t position = (firstRow + row) % rotation.length;
        const float* cosines = rotation.cosines + position * half;
        const float* sines = rotation.sines + position * half;
        for (std::int64_t head = 0; head < rotation.heads; ++head) {
            Element* __restrict first = rows + (row * rotation.heads + head) * rotation.headDim;
            Element* __restrict second = first + half;
            for (std::int64_t i = 0; i < half; ++i) rotatePair(first[i], second[i], cosines[i], sines[i]);
        }
    }
}

}  // namespace

AIMERGE_CPU_CLONES void rmsNorm(const float* x, const float* weight, float* out, std::int64_t rows, std::int64_t channels,
                                float eps) {
    rmsNormBody(x, weight, out, rows, channels, eps);
}

AIMERGE_CPU_CLONES void rmsNorm(const Bf16* x, const Bf16* weight, Bf16* out, std::int64_t rows, std::int64_t channels,
                                float eps) {
    rmsNormBody(x, weight, out, rows, channels, eps);
}

AIMERGE_CPU_CLONES void rotate(float* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation) {
    rotateBody(rows, firstRow, rowCount, rotation);
}

AIMERGE_CPU_CLONES void rotate(Bf16* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation) {
    rotateBody(rows, firstRow, rowCount, rotation);
}

}  // namespace aimerge::kernels
