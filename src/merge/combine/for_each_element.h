#pragma once
// Walks a stretch of one parameter with a combine (merge/element_wise.h), vectorised.

#include "aimerge/merge/element_wise.h"
#include "merge/combine/vectorised.h"

#include <cstddef>
#include <span>
#include <type_traits>

namespace aimerge {

/// Calls use(std::integral_constant<int, N>) with N = count, or N = kAnyNumber beyond the numbers
/// that are compiled one by one.
template <typename Use>
void withInputCount(std::size_t count, const Use& use) {
    switch (count) {
        case 1:
            return use(std::integral_constant<int, 1>{});
        case 2:
            return use(std::integral_constant<int, 2>{});
        case 3:
            return use(std::integral_constant<int, 3>{});
        case 4:
            return use(std::integral_constant<int, 4>{});
        case 5:
            return use(std::integral_constant<int, 5>{});
        case 6:
            return use(std::integral_constant<int, 6>{});
        case 7:
            return use(std::integral_constant<int, 7>{});
        case kMostUnrolledInputs:
            return use(std::integral_constant<int, kMostUnrolledInputs>{});
        default:
            return use(std::integral_constant<int, kAnyNumber>{});
    }
}

/// As above, for a method's `normalize`: calls use(std::integral_constant<Normalize, ...>).
template <typename Use>
void withNormalize(bool normalize, const Use& use) {
    if (normalize) return use(std::integral_constant<Normalize, Normalize::Yes>{});
    return use(std::integral_constant<Normalize, Normalize::No>{});
}

/// out[i] = combine(base[i], inputs at i). @param base null when the combine takes none: it is called with 0
template <int kInputs, typename Combine>
void forEachElement(const Combine& combine, const float* base, std::span<const float* const> inputs, std::span<float> out) {
    const auto pointers = PerInput<const float*, kInputs>::from(inputs.data());
    const int number = static_cast<int>(inputs.size());
    float* const to = out.data();
    const std::size_t count = out.size();
    vectorised([=]() AIMERGE_INLINE_BODY {
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i)
            to[i] = combine(Combine::kTakesBase ? base[i] : 0.0f, InputsAt<kInputs>{pointers, i, i, number});
    });
}

}  // namespace aimerge
