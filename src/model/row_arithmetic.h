#pragma once
// The decoder's arithmetic on single elements, for the host's rows (row_kernels.cpp) and the device's (row_kernels.cu). BF16
// elements are their bit patterns.

#include "aimerge/core/bfloat.h"

#include <cstdint>
#include <type_traits>

#define AIMERGE_ELEMENT AIMERGE_HD inline __attribute__((always_inline))

namespace aimerge::kernels {

using Bf16 = std::uint16_t;

template <typename Element>
AIMERGE_ELEMENT Element narrow(float value) {
    if constexpr (std::is_same_v<Element, float>) {
        return value;
    } else {
        return bf16FromFloat(value);
    }
}

/// weight * cast(x * scale), the product in the element type.
template <typename Element>
AIMERGE_ELEMENT Element normalised(Element x, Element weight, float scale) {
    return narrow<Element>(widen(weight) * widen(narrow<Element>(widen(x) * scale)));
}

template <typename Element>
AIMERGE_ELEMENT float product(Element a, float b) {
    return widen(narrow<Element>(widen(a) * b));
}

/// (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), each product and the sum rounded to the element type.
template <typename Element>
AIMERGE_ELEMENT void rotatePair(Element& first, Element& second, float cosine, float sine) {
    const Element x1 = first, x2 = second;
    first = narrow<Element>(product(x1, cosine) - product(x2, sine));
    second = narrow<Element>(product(x2, cosine) + product(x1, sine));
}

}  // namespace aimerge::kernels
