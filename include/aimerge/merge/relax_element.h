#pragma once
// The relaxation of one element, for host and device. What it means for a tensor is in merge/relaxation.h.

#include "aimerge/merge/element_wise.h"

namespace aimerge {

enum class DeltaRounding {
    None,     // float32 throughout
    Bfloat16  // theta_merged and then theta_merged - theta_base are rounded to bf16 first, as the authors' code has them
};

AIMERGE_KERNEL float roundedToBf16(float value) {
    return floatFromBf16(bf16FromFloat(value));
}

/// theta_base + factor (theta_merged - theta_base). A factor of 1 gives theta_merged and one of 0 theta_base, bit for bit.
/// @param factor 1 - A (1 - omega) of the element's channel
template <DeltaRounding kRounding>
AIMERGE_KERNEL float relaxElement(float base, float merged, float factor) {
    float target = merged, delta = target - base;
    if constexpr (kRounding == DeltaRounding::Bfloat16) {
        target = roundedToBf16(target);
        delta = roundedToBf16(target - base);
    }
    const std::uint32_t relaxed = bitsOfFloat(base + delta * factor);
    const std::uint32_t heldBack = selectBits(factor == 0, bitsOfFloat(base), relaxed);
    return floatOfBits(selectBits(factor == 1, bitsOfFloat(target), heldBack));
}

}  // namespace aimerge
