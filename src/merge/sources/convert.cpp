#include "merge/sources/convert.h"

#include "aimerge/core/bfloat.h"
#include "merge/combine/vectorised.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace aimerge {
namespace {

constexpr std::uint32_t kMagnitude = 0x7FFFFFFFu, kInfinity = 0x7F800000u;

Finite finite(bool yes) {
    return yes ? Finite::Yes : Finite::No;
}

/// Elements are at most this many at a time copied to an aligned place first; the compiler folds the copy away.
template <typename Element>
struct Unaligned {
    const std::byte* bytes;

    __attribute__((always_inline)) Element operator[](std::size_t index) const {
        Element value;
        std::memcpy(&value, bytes + index * sizeof(Element), sizeof(Element));
        return value;
    }
};

/// The largest magnitude of what `convert` makes of each element is what tells whether all are finite.
template <typename Element, typename Convert>
Finite convertToFloat(const std::byte* in, std::span<float> out, Convert convert) {
    const Unaligned<Element> from{in};
    float* const to = out.data();
    const std::size_t count = out.size();
    const std::uint32_t largest = vectorised([=]() AIMERGE_INLINE_BODY {
        std::uint32_t magnitude = 0;
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) {
            const float value = convert(from[i]);
            to[i] = value;
            magnitude = std::max(magnitude, bitsOfFloat(value) & kMagnitude);
        }
        return magnitude;
    });
    return finite(largest < kInfinity);
}

template <typename Element, typename Convert, typename Magnitude>
Finite convertFromFloat(std::span<const float> in, std::byte* out, Magnitude infinity, Convert convert) {
    const float* const from = in.data();
    const std::size_t count = in.size();
    constexpr Magnitude kSignless = static_cast<Magnitude>(~Magnitude{0}) >> 1;
    const Magnitude largest = vectorised([=]() AIMERGE_INLINE_BODY {
        Magnitude magnitude = 0;
#pragma GCC ivdep
        for (std::size_t i = 0; i < count; ++i) {
            const Element value = convert(from[i]);
            std::memcpy(out + i * sizeof(Element), &value, sizeof(Element));
            magnitude = std::max(magnitude, static_cast<Magnitude>(value & kSignless));
        }
        return magnitude;
    });
    return finite(largest < infinity);
}

}  // namespace

Finite toFloat(Dtype from, const std::byte* in, std::span<float> out) {
    switch (from) {
        case Dtype::BF16:
            return convertToFloat<std::uint16_t>(in, out,
                                                 [](std::uint16_t bits) AIMERGE_INLINE_BODY { return floatFromBf16(bits); });
        case Dtype::F16:
            return convertToFloat<std::uint16_t>(in, out,
                                                 [](std::uint16_t bits) AIMERGE_INLINE_BODY { return floatFromFp16(bits); });
        case Dtype::F32:
            return convertToFloat<float>(in, out, [](float value) AIMERGE_INLINE_BODY { return value; });
        case Dtype::F64:
            return convertToFloat<double>(in, out,
                                          [](double value) AIMERGE_INLINE_BODY { return static_cast<float>(value); });
        default:
            throw std::logic_error("toFloat: not a dtype that can be merged");
    }
}

Finite fromFloat(std::span<const float> in, Dtype to, std::byte* out) {
    switch (to) {
        case Dtype::BF16:
            return convertFromFloat<std::uint16_t>(in, out, std::uint16_t{0x7F80},
                                                   [](float value) AIMERGE_INLINE_BODY { return bf16FromFloat(value); });
        case Dtype::F16:
            return convertFromFloat<std::uint16_t>(in, out, std::uint16_t{0x7C00},
                                                   [](float value) AIMERGE_INLINE_BODY { return fp16FromFloat(value); });
        case Dtype::F32:
            return convertFromFloat<std::uint32_t>(in, out, kInfinity,
                                                   [](float value) AIMERGE_INLINE_BODY { return bitsOfFloat(value); });
        default:
            throw std::logic_error("fromFloat: not a dtype that merges are written in");
    }
}

}  // namespace aimerge
