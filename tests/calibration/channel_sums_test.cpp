#include "calibration/channel_sums.h"
#include "aimerge/core/bfloat.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace aimerge {
namespace {

template <typename Element>
ChannelSums sumsOf(const std::vector<Element>& rows, std::int64_t channels) {
    ChannelSums sums(channels);
    for (std::int64_t strip = 0; strip * kStripChannels < channels; ++strip)
        addStrip(rows.data(), static_cast<std::int64_t>(rows.size()) / channels, strip, sums);
    return sums;
}

TEST(ChannelSums, SumMagnitudesAndSquaresAndTheLargest) {
    const ChannelSums sums = sumsOf<float>({1, -2,  //
                                            -3, 4,  //
                                            0, 0.5f},
                                           2);

    EXPECT_EQ(sums.sumAbs, (std::vector<double>{4, 6.5}));
    EXPECT_EQ(sums.sumSquares, (std::vector<double>{10, 20.25}));
    EXPECT_EQ(sums.maxAbs, (std::vector<float>{3, 4}));
}

TEST(ChannelSums, ReadBf16) {
    const ChannelSums sums =
        sumsOf<Bf16Bits>({bf16FromFloat(1.5f), bf16FromFloat(-2), bf16FromFloat(-0.5f), bf16FromFloat(0)}, 2);

    EXPECT_EQ(sums.sumAbs, (std::vector<double>{2, 2}));
    EXPECT_EQ(sums.sumSquares, (std::vector<double>{2.5, 4}));
    EXPECT_EQ(sums.maxAbs, (std::vector<float>{1.5f, 2}));
}

class ChannelSumsOfShape : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

TEST_P(ChannelSumsOfShape, AreThoseOfThePlainLoop) {
    // Small integers: every order of adding gives the same sum.
    const auto [rows, channels] = GetParam();
    std::vector<float> values(static_cast<std::size_t>(rows * channels));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<int>(i * 7 % 23) - 11);

    const ChannelSums sums = sumsOf(values, channels);

    for (std::int64_t c = 0; c < channels; ++c) {
        double sumAbs = 0, sumSquares = 0;
        float maxAbs = 0;
        for (std::int64_t row = 0; row < rows; ++row) {
            const float value = values[static_cast<std::size_t>(row * channels + c)];
            sumAbs += std::fabs(value);
            sumSquares += value * value;
            maxAbs = std::max(maxAbs, std::fabs(value));
        }
        ASSERT_EQ(sums.sumAbs[static_cast<std::size_t>(c)], sumAbs) << "channel " << c;
        ASSERT_EQ(sums.sumSquares[static_cast<std::size_t>(c)], sumSquares) << "channel " << c;
        ASSERT_EQ(sums.maxAbs[static_cast<std::size_t>(c)], maxAbs) << "channel " << c;
    }
}

INSTANTIATE_TEST_SUITE_P(RowsAndChannels, ChannelSumsOfShape,
                         testing::Values(std::pair{0, 5}, std::pair{1, 1}, std::pair{31, 31}, std::pair{32, 32},
                                         std::pair{33, 33}, std::pair{97, 101}, std::pair{64, 160}));

TEST(ChannelSums, KeepCountingWhereAFloatWouldStop) {
    // 2^24 ones are as far as a float32 counts.
    const std::vector<float> ones(1 << 12, 1);
    ChannelSums sums(1);
    sums.sumAbs[0] = 16777216;

    addStrip(ones.data(), 1 << 12, 0, sums);

    EXPECT_EQ(sums.sumAbs[0], 16777216 + 4096);
}

class BadValue : public testing::TestWithParam<float> {};

TEST_P(BadValue, IsSeenAmongGoodOnes) {
    std::vector<float> values(67 * 40, 1.0f);
    values[50 * 40 + 33] = GetParam();

    EXPECT_FALSE(sumsOf(values, 40).finite());
}

INSTANTIATE_TEST_SUITE_P(Values, BadValue,
                         testing::Values(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                                         -std::numeric_limits<float>::infinity(), 1e20f));

TEST(ChannelSums, OfGoodValuesAreFinite) {
    EXPECT_TRUE(sumsOf(std::vector<float>(67 * 40, 1e15f), 40).finite());
}

}  // namespace
}  // namespace aimerge
