#include "calibration/magnitude_sum.h"

#include "aimerge/core/bfloat.h"
#include "aimerge/model/cpu_clones.h"

#include <cmath>
#include <cstddef>

namespace aimerge {
namespace {

template <typename Element>
[[gnu::always_inline]] inline void addBody(float* sum, const Element* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) sum[i] += std::fabs(widen(values[i]));
}

AIMERGE_CPU_CLONES void add(float* sum, const float* values, std::size_t count) {
    addBody(sum, values, count);
}

AIMERGE_CPU_CLONES void add(float* sum, const std::uint16_t* values, std::size_t count) {
    addBody(sum, values, count);
}

}  // namespace

void addMagnitudes(std::span<float> sum, std::span<const float> values) {
    add(sum.data(), values.data(), sum.size());
}

void addMagnitudes(std::span<float> sum, std::span<const std::uint16_t> values) {
    add(sum.data(), values.data(), sum.size());
}

}  // namespace aimerge
