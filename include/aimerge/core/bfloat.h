#pragma once
// Conversions between float and the 16-bit formats bf16 (8 exponent bits) and fp16 (5 exponent bits), as bit patterns.
// To 16 bits: round to nearest even; too large becomes infinity; subnormals are exact results, not zeros; a NaN stays a NaN
// (made quiet, sign kept). Every path is computed and one selected, so that compilers vectorise loops over these functions;
// no intermediate value is a float32 subnormal, so the results do not depend on flush-to-zero modes.

#include "aimerge/core/host_device.h"

#include <bit>
#include <cstdint>

namespace aimerge {

AIMERGE_HD inline std::uint32_t bitsOfFloat(float value) {
#if defined(__CUDA_ARCH__)
    return __float_as_uint(value);
#else
    return std::bit_cast<std::uint32_t>(value);
#endif
}

AIMERGE_HD inline float floatOfBits(std::uint32_t bits) {
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    return std::bit_cast<float>(bits);
#endif
}

/// condition ? yes : no, by masks: with the conditional operator g++ moves floating-point work into a branch, which it then
/// does not vectorise.
AIMERGE_HD inline std::uint32_t selectBits(bool condition, std::uint32_t yes, std::uint32_t no) {
    const std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
    return (yes & mask) | (no & ~mask);
}

AIMERGE_HD inline float floatFromBf16(std::uint16_t bits) {
    return floatOfBits(std::uint32_t{bits} << 16);
}

/// An element of either type, bf16 as its bits, as float32.
AIMERGE_HD inline float widen(float value) {
    return value;
}
AIMERGE_HD inline float widen(std::uint16_t bits) {
    return floatFromBf16(bits);
}

AIMERGE_HD inline std::uint16_t bf16FromFloat(float value) {
    const std::uint32_t bits = bitsOfFloat(value);
    const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    const std::uint32_t quietNan = (bits >> 16) | 0x0040u;
    const bool isNan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    return static_cast<std::uint16_t>(selectBits(isNan, quietNan, rounded));
}

AIMERGE_HD inline float floatFromFp16(std::uint16_t bits) {
    const std::uint32_t sign = (std::uint32_t{bits} & 0x8000u) << 16;
    const std::uint32_t magnitude = std::uint32_t{bits} & 0x7FFFu;
    const std::uint32_t normal = (magnitude << 13) + ((127u - 15u) << 23);
    const std::uint32_t infinityOrNan = (magnitude << 13) + ((255u - 31u) << 23);
    // A subnormal is a whole number of 2^-24; the scaling is exact.
    const std::uint32_t subnormal = bitsOfFloat(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f);
    const std::uint32_t finite = selectBits(magnitude < 0x0400u, subnormal, normal);
    const std::uint32_t quiet = selectBits(magnitude > 0x7C00u, 0x00400000u, 0u);
    return floatOfBits(sign | selectBits(magnitude >= 0x7C00u, infinityOrNan | quiet, finite));
}

AIMERGE_HD inline std::uint16_t fp16FromFloat(float value) {
    const std::uint32_t bits = bitsOfFloat(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
    const std::uint32_t normal = (magnitude - ((127u - 15u) << 23) + 0x0FFFu + ((magnitude >> 13) & 1u)) >> 13;
    // One unit in the last place of 0.5 is 2^-24, the smallest fp16 subnormal: the addition rounds as wanted.
    const std::uint32_t subnormal = bitsOfFloat(floatOfBits(magnitude) + 0.5f) - bitsOfFloat(0.5f);
    const std::uint32_t quietNan = 0x7E00u | ((magnitude >> 13) & 0x03FFu);
    const std::uint32_t finite = selectBits(magnitude < 0x38800000u, subnormal, normal);  // 2^-14
    const std::uint32_t number = selectBits(magnitude >= 0x477FF000u, 0x7C00u, finite);   // 65520 rounds to infinity
    return static_cast<std::uint16_t>(sign | selectBits(magnitude > 0x7F800000u, quietNan, number));
}

}  // namespace aimerge
