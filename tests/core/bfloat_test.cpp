#include "aimerge/core/bfloat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace aimerge {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The value of an fp16 pattern by its definition, in double.
double fp16Value(std::uint16_t bits) {
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    if (exponent == 0) return sign * std::ldexp(fraction, -24);
    if (exponent == 31) return fraction == 0 ? sign * HUGE_VAL : std::nan("");
    return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST(Fp16, AllPatternsHaveTheirValueAndComeBack) {
    for (std::uint32_t pattern = 0; pattern <= 0xFFFF; ++pattern) {
        const auto bits = static_cast<std::uint16_t>(pattern);
        const float value = floatFromFp16(bits);
        if (std::isnan(fp16Value(bits))) {
            ASSERT_TRUE(std::isnan(value)) << pattern;
            ASSERT_EQ(fp16FromFloat(value), bits | 0x0200) << pattern;
        } else {
            ASSERT_EQ(value, fp16Value(bits)) << pattern;
            ASSERT_EQ(std::signbit(value), pattern >= 0x8000) << pattern;
            ASSERT_EQ(fp16FromFloat(value), bits) << pattern;
        }
    }
}

TEST(Bf16, AllPatternsComeBack) {
    for (std::uint32_t pattern = 0; pattern <= 0xFFFF; ++pattern) {
        const auto bits = static_cast<std::uint16_t>(pattern);
        const float value = floatFromBf16(bits);
        ASSERT_EQ(bitsOfFloat(value), pattern << 16);
        ASSERT_EQ(bf16FromFloat(value), std::isnan(value) ? bits | 0x0040 : bits) << pattern;
    }
}

// Between every two neighbours: below the middle rounds down, above it up, the middle itself to the even pattern.
TEST(Fp16, RoundsToNearestEvenBetweenAllNeighbours) {
    for (std::uint16_t lower = 0; lower < 0x7BFF; ++lower) {
        const auto upper = static_cast<std::uint16_t>(lower + 1);
        const auto middle = static_cast<float>((fp16Value(lower) + fp16Value(upper)) / 2);
        const std::uint16_t even = lower % 2 == 0 ? lower : upper;
        ASSERT_EQ(fp16FromFloat(std::nextafter(middle, 0.0f)), lower) << lower;
        ASSERT_EQ(fp16FromFloat(middle), even) << lower;
        ASSERT_EQ(fp16FromFloat(-middle), even | 0x8000) << lower;
        ASSERT_EQ(fp16FromFloat(std::nextafter(middle, kInfinity)), upper) << lower;
    }
}

TEST(Bf16, RoundsToNearestEvenBetweenAllNeighbours) {
    for (std::uint32_t lower = 0; lower < 0x7F80; ++lower) {
        const std::uint32_t middle = (lower << 16) + 0x8000;
        const std::uint32_t even = lower % 2 == 0 ? lower : lower + 1;
        ASSERT_EQ(bf16FromFloat(floatOfBits(middle - 1)), lower);
        ASSERT_EQ(bf16FromFloat(floatOfBits(middle)), even);
        ASSERT_EQ(bf16FromFloat(floatOfBits(middle | 0x80000000u)), even | 0x8000u);
        ASSERT_EQ(bf16FromFloat(floatOfBits(middle + 1)), lower + 1);
    }
}

TEST(Fp16, OverflowsToInfinityFromTheMiddleAboveTheLargest) {
    EXPECT_EQ(fp16FromFloat(65519.996f), 0x7BFF);
    EXPECT_EQ(fp16FromFloat(65520.0f), 0x7C00);
    EXPECT_EQ(fp16FromFloat(-1e30f), 0xFC00);
    EXPECT_EQ(fp16FromFloat(kInfinity), 0x7C00);
}

TEST(Fp16, UnderflowsToSignedZeroBelowHalfTheSmallestSubnormal) {
    EXPECT_EQ(fp16FromFloat(0x1p-25f), 0x0000);  // the middle, zero is even
    EXPECT_EQ(fp16FromFloat(0x1.000002p-25f), 0x0001);
    EXPECT_EQ(fp16FromFloat(-0x1p-149f), 0x8000);
}

TEST(Bf16, OverflowsToInfinityFromTheMiddleAboveTheLargest) {
    EXPECT_EQ(bf16FromFloat(std::numeric_limits<float>::max()), 0x7F80);
    EXPECT_EQ(bf16FromFloat(floatOfBits(0x7F7F7FFF)), 0x7F7F);
}

// A NaN whose payload lies in the bits that are cut off must not turn into an infinity.
TEST(Bfloat, NanWithLowPayloadStaysNan) {
    const float nan = floatOfBits(0xFF800001);
    EXPECT_EQ(bf16FromFloat(nan), 0xFFC0);
    EXPECT_EQ(fp16FromFloat(nan), 0xFE00);
}

}  // namespace
}  // namespace aimerge
