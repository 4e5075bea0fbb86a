#pragma once
// exp and ln in plain arithmetic, for loops over elements: the C library's would give other bits on other instruction sets,
// and are not vectorised.

#include <bit>
#include <cstdint>

namespace aimerge {

/// 1 + x + x^2/2 + ... to the power kDegree, as a chain of multiplications and additions.
template <int kDegree, typename Number>
__attribute__((always_inline)) inline Number exponentialSeries(Number x) {
    double factorial = 1;
    for (int k = 2; k <= kDegree; ++k) factorial *= k;
    Number series = static_cast<Number>(1 / factorial);
    for (int k = kDegree; k > 0; --k) {
        factorial /= k;
        series = series * x + static_cast<Number>(1 / factorial);
    }
    return series;
}

/// e^x to about 2e-16 of it. @pre x <= 700; below -700 it is e^-700
__attribute__((always_inline)) inline double exponential(double x) {
    constexpr double kLog2OfE = 0x1.71547652b82fep0;
    constexpr double kLn2High = 0x1.62e42fefa3800p-1, kLn2Low = 0x1.ef35793c76730p-45;  // kLn2High times an int is exact
    constexpr double kToInteger = 0x1.8p52;  // added, it leaves the nearest whole number in the low bits
    const double bounded = x > -700.0 ? x : -700.0;
    const double shifted = bounded * kLog2OfE + kToInteger;
    const double whole = shifted - kToInteger;
    const double r = (bounded - whole * kLn2High) - whole * kLn2Low;  // |r| <= ln 2 / 2
    const std::uint64_t exponent = (std::bit_cast<std::uint64_t>(shifted) + 1023) << 52;
    return exponentialSeries<13>(r) * std::bit_cast<double>(exponent);
}

/// In float32, each to about 2e-7 of it.

/// e^x. @pre |x| <= 1
__attribute__((always_inline)) inline float exponentialWithinOne(float x) {
    return exponentialSeries<10>(x);
}

inline constexpr float kNearZero = 0x1p-5f;

/// e^x - 1. @pre |x| <= kNearZero
__attribute__((always_inline)) inline float exponentialMinusOneNearZero(float x) {
    float series = 1.0f / 24;
    series = series * x + 1.0f / 6;
    series = series * x + 1.0f / 2;
    return x + x * x * series;
}

/// (1 + u) ln(1 + u) - u: u^2/2 - u^3/6 + ..., of u^k 1 / (k (k - 1)). @pre |u| <= e^(2 kNearZero) - 1
__attribute__((always_inline)) inline float excessOfLogarithmNearOne(float u) {
    float series = 1.0f / 30;
    series = series * u - 1.0f / 20;
    series = series * u + 1.0f / 12;
    series = series * u - 1.0f / 6;
    series = series * u + 1.0f / 2;
    return u * u * series;
}

/// ln(a / b), accurate relative to its own size also where a and b are close. @pre a and b are positive and normal, and so
/// is a / b
__attribute__((always_inline)) inline double logarithmOfRatio(double a, double b) {
    constexpr double kLn2 = 0x1.62e42fefa39efp-1;
    constexpr std::uint64_t kSqrtHalf = 0x3FE6A09E667F3BCDu;  // bits
    constexpr double kToInteger = 0x1.8p52;
    // a / b = 2^e m with m in [sqrt(1/2), sqrt 2): e by adding up exponents, then ln m = 2 artanh((m - 1) / (m + 1)).
    const std::uint64_t exponent = (std::bit_cast<std::uint64_t>(a / b) - kSqrtHalf + (std::uint64_t{1} << 62)) >> 52;
    const std::uint64_t e = exponent - 1024;  // modulo 2^64
    const double whole = std::bit_cast<double>(std::bit_cast<std::uint64_t>(kToInteger) + e) - kToInteger;
    const double scaled = b * std::bit_cast<double>((e + 1023) << 52);  // b 2^e: exact
    const double s = (a - scaled) / (a + scaled), square = s * s;       // |s| <= 0.172

    double series = 1.0 / 21;
    series = series * square + 1.0 / 19;
    series = series * square + 1.0 / 17;
    series = series * square + 1.0 / 15;
    series = series * square + 1.0 / 13;
    series = series * square + 1.0 / 11;
    series = series * square + 1.0 / 9;
    series = series * square + 1.0 / 7;
    series = series * square + 1.0 / 5;
    series = series * square + 1.0 / 3;
    return whole * kLn2 + 2 * (s + s * square * series);
}

}  // namespace aimerge
