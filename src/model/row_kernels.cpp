#include "model/row_kernels.h"

#include "aimerge/model/cpu_clones.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace aimerge::kernels {
namespace {

// Bodies are inlined into the clones below, so that each is compiled for its processor.
#define AIMERGE_BODY [[gnu::always_inline]] inline

/// Sum of term(0) to term(channels - 1) over 16 running sums, which a vector register or two
/// hold, added up in a fixed order.
template <typename Term>
AIMERGE_BODY float sumOverChannels(std::int64_t channels, const Term& term) {
    constexpr std::int64_t kLanes = 16;
    std::array<float, kLanes> lanes{};
    std::int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes)
        for (std::int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(c + lane);
    for (; c < channels; ++c) lanes[c % kLanes] += term(c);
    for (std::int64_t width = kLanes / 2; width > 0; width /= 2)
        for (std::int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

/// 1 / sqrt(mean(x^2) + eps)
template <typename Element>
AIMERGE_BODY float normScale(const Element* x, std::int64_t channels, float eps) {
    const float squares = sumOverChannels(channels, [&](std::int64_t c) { return widen(x[c]) * widen(x[c]); });
    return 1.0f / std::sqrt(squares / static_cast<float>(channels) + eps);
}

template <typename Element>
AIMERGE_BODY void rmsNormBody(const Element* x, const Element* weight, Element* out, std::int64_t rows,
                              std::int64_t channels, float eps) {
    for (std::int64_t row = 0; row < rows; ++row, x += channels, out += channels) {
        const float scale = normScale(x, channels, eps);
        for (std::int64_t c = 0; c < channels; ++c) out[c] = normalised(x[c], weight[c], scale);
    }
}

template <typename Element>
AIMERGE_BODY void scaleRowsBody(const Element* x, const float* scales, const float* factors, Element* out, std::int64_t rows,
                                std::int64_t channels) {
    for (std::int64_t row = 0; row < rows; ++row, x += channels, out += channels)
        for (std::int64_t c = 0; c < channels; ++c) out[c] = narrow<Element>(widen(x[c]) * scales[row] * factors[c]);
}

template <typename Element>
AIMERGE_BODY void rmsNormGradientBody(const Element* x, const float* factors, const Element* gradient, Element* byX,
                                      float* __restrict byFactors, std::int64_t rows, std::int64_t channels, float eps) {
    std::fill(byFactors, byFactors + channels, 0.0f);
    for (std::int64_t row = 0; row < rows; ++row, x += channels, gradient += channels, byX += channels) {
        const float scale = normScale(x, channels, eps);
        const float product =
            sumOverChannels(channels, [&](std::int64_t c) { return widen(gradient[c]) * factors[c] * widen(x[c]); });
        const float along = product * scale * scale / static_cast<float>(channels);
        for (std::int64_t c = 0; c < channels; ++c) {
            const float value = widen(x[c]), by = widen(gradient[c]);
            byX[c] = narrow<Element>(scale * (by * factors[c] - value * along));
            byFactors[c] += by * (value * scale);
        }
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
            Element* const channels = rows + (row * rotation.heads + head) * rotation.headDim;
            if (rotation.isInterleaved) {
                for (std::int64_t i = 0; i < half; ++i)
                    rotatePair(channels[2 * i], channels[2 * i + 1], cosines[i], sines[i]);
                continue;
            }
            Element* __restrict first = channels;
            Element* __restrict second = channels + half;
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

AIMERGE_CPU_CLONES void scaleRows(const float* x, const float* scales, const float* factors, float* out, std::int64_t rows,
                                  std::int64_t channels) {
    scaleRowsBody(x, scales, factors, out, rows, channels);
}

AIMERGE_CPU_CLONES void scaleRows(const Bf16* x, const float* scales, const float* factors, Bf16* out, std::int64_t rows,
                                  std::int64_t channels) {
    scaleRowsBody(x, scales, factors, out, rows, channels);
}

AIMERGE_CPU_CLONES void rmsNormGradient(const float* x, const float* factors, const float* gradient, float* byX,
                                        float* byFactors, std::int64_t rows, std::int64_t channels, float eps) {
    rmsNormGradientBody(x, factors, gradient, byX, byFactors, rows, channels, eps);
}

AIMERGE_CPU_CLONES void rmsNormGradient(const Bf16* x, const float* factors, const Bf16* gradient, Bf16* byX,
                                        float* byFactors, std::int64_t rows, std::int64_t channels, float eps) {
    rmsNormGradientBody(x, factors, gradient, byX, byFactors, rows, channels, eps);
}

AIMERGE_CPU_CLONES void rotate(float* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation) {
    rotateBody(rows, firstRow, rowCount, rotation);
}

AIMERGE_CPU_CLONES void rotate(Bf16* rows, std::int64_t firstRow, std::int64_t rowCount, const Rotation& rotation) {
    rotateBody(rows, firstRow, rowCount, rotation);
}

}  // namespace aimerge::kernels
