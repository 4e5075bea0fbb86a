#include "model/row_kernels.h"
#include "aimerge/core/bfloat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace aimerge::kernels {
namespace {

std::vector<Bf16> toBf16(const std::vector<float>& values) {
    std::vector<Bf16> result;
    for (const float value : values) result.push_back(bf16FromFloat(value));
    return result;
}

std::vector<float> toFloat(const std::vector<Bf16>& values) {
    std::vector<float> result;
    for (const Bf16 value : values) result.push_back(floatFromBf16(value));
    return result;
}

TEST(ScaleRows, RoundsOnce) {
    const std::vector<float> scales{1.25f, 2}, factors{1.25f, 3};
    const std::vector<Bf16> x = toBf16({1.0078125f, 2, -3, 4});
    std::vector<Bf16> out(4);
    scaleRows(x.data(), scales.data(), factors.data(), out.data(), 2, 2);
    // With a rounding behind the first product it would begin with 1.5703125.
    EXPECT_EQ(toFloat(out), (std::vector<float>{1.578125f, 7.5f, -7.5f, 24}));

    std::vector<float> wide(4);
    const std::vector<float> values{1.0078125f, 2, -3, 4};
    scaleRows(values.data(), scales.data(), factors.data(), wide.data(), 2, 2);
    EXPECT_EQ(wide, (std::vector<float>{1.57470703125f, 7.5f, -7.5f, 24}));
}

TEST(RmsNorm, DividesByTheRootMeanSquareAndScales) {
    // mean of squares 4, so the row is halved
    const std::vector<float> x{2, -2, 2, -2}, weight{1, 2, 3, 4};
    std::vector<float> out(4);

    rmsNorm(x.data(), weight.data(), out.data(), 1, 4, 0.0f);

    EXPECT_EQ(out, (std::vector<float>{1, -2, 3, -4}));
}

TEST(RmsNorm, TreatsEveryRowAlone) {
    const std::vector<float> x{2, 2, 8, 8}, weight{1, 1};
    std::vector<float> out(4);

    rmsNorm(x.data(), weight.data(), out.data(), 2, 2, 0.0f);

    EXPECT_EQ(out, (std::vector<float>{1, 1, 1, 1}));
}

TEST(RmsNorm, AddsEpsilonToTheMeanSquare) {
    const std::vector<float> x{0, 0}, weight{1, 1};
    std::vector<float> out{9, 9};

    rmsNorm(x.data(), weight.data(), out.data(), 1, 2, 1e-5f);

    EXPECT_EQ(out, (std::vector<float>{0, 0}));
}

TEST(RmsNorm, SumsChannelsBeyondTheLastFullGroupOfSixteen) {
    // 19 channels: 16 twos and 3 sixteens: (16 * 4 + 3 * 256) / 19 = 832 / 19
    std::vector<float> x(19, 2), weight(19, 1), out(19);
    x[16] = x[17] = x[18] = 16;

    rmsNorm(x.data(), weight.data(), out.data(), 1, 19, 0.0f);

    EXPECT_FLOAT_EQ(out[0], 2 / std::sqrt(832.0f / 19));
    EXPECT_FLOAT_EQ(out[18], 16 / std::sqrt(832.0f / 19));
}

TEST(RmsNorm, RoundsToBf16BeforeTheWeightAndAfter) {
    // x / rms = (1/3, 5/3) / sqrt(13/9); each rounded to bf16, then times 3 and rounded again
    const std::vector<Bf16> x = toBf16({1, 5}), weight = toBf16({3, 3});
    std::vector<Bf16> out(2);

    rmsNorm(x.data(), weight.data(), out.data(), 1, 2, 0.0f);

    const float scale = 1.0f / std::sqrt(13.0f);
    for (std::size_t i = 0; i < 2; ++i) {
        const float normalised = floatFromBf16(bf16FromFloat(floatFromBf16(x[i]) * scale));
        EXPECT_EQ(out[i], bf16FromFloat(3 * normalised));
    }
}

TEST(Rotate, TurnsTheFirstHalfOfAHeadAgainstTheSecond) {
    // cos 0.5, sin 2 (no angle, but exact): x1' = 0.5 x1 - 2 x2, x2' = 0.5 x2 + 2 x1
    std::vector<float> row{1, 2, 4, 8};
    const std::vector<float> cosines{0.5f, 0.5f}, sines{2, 2};

    rotate(row.data(), 0, 1, {cosines.data(), sines.data(), 1, 1, 4, 2});

    EXPECT_EQ(row, (std::vector<float>{0.5f - 8, 1 - 16, 2 + 2, 4 + 4}));
}

TEST(Rotate, PositionsBeginAnewWithEverySequence) {
    // length 2, rows 1, 2, 3 of two sequences: positions 1, 0, 1; position 0 keeps, position 1 swaps with a sign
    std::vector<float> rows{1, 2, 1, 2, 1, 2};
    const std::vector<float> cosines{1, 0}, sines{0, 1};

    rotate(rows.data(), 1, 3, {cosines.data(), sines.data(), 2, 1, 2, 1});

    EXPECT_EQ(rows, (std::vector<float>{-2, 1, 1, 2, -2, 1}));
}

TEST(Rotate, EveryHeadOfARowHasTheSamePosition) {
    std::vector<float> row{1, 2, 3, 4};
    const std::vector<float> cosines{0}, sines{1};

    rotate(row.data(), 0, 1, {cosines.data(), sines.data(), 1, 2, 2, 1});

    EXPECT_EQ(row, (std::vector<float>{-2, 1, -4, 3}));
}

TEST(Rotate, LeavesTheRestOfAPartlyRotatedHead) {
    std::vector<float> row{1, 2, 10, 20, 3, 4, 30, 40};
    const std::vector<float> cosines{0}, sines{1};

    rotate(row.data(), 0, 1, {cosines.data(), sines.data(), 1, 2, 4, 1});

    EXPECT_EQ(row, (std::vector<float>{-2, 1, 10, 20, -4, 3, 30, 40}));
}

TEST(Rotate, RoundsBothProductsAndTheirSumToBf16) {
    const float c = floatFromBf16(bf16FromFloat(0.3f)), s = floatFromBf16(bf16FromFloat(0.7f));
    std::vector<Bf16> row = toBf16({1.0078125f, 3.015625f});
    const float x1 = floatFromBf16(row[0]), x2 = floatFromBf16(row[1]);

    rotate(row.data(), 0, 1, {&c, &s, 1, 1, 2, 1});

    const auto rounded = [](float value) { return floatFromBf16(bf16FromFloat(value)); };
    EXPECT_EQ(toFloat(row),
              (std::vector<float>{rounded(rounded(x1 * c) - rounded(x2 * s)), rounded(rounded(x2 * c) + rounded(x1 * s))}));
}

}  // namespace
}  // namespace aimerge::kernels
