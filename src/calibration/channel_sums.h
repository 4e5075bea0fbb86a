#pragma once
// Running sums per channel of the rows that pass a point of the decoder. Within kTileRows rows the sums are float32, across
// them float64; rows are taken in order and channels never meet, so the bits do not depend on how channels are shared out
// over threads.

#include <cstdint>
#include <vector>

namespace aimerge {

struct ChannelSums {
    explicit ChannelSums(std::int64_t channels);

    std::int64_t channels() const { return static_cast<std::int64_t>(sumAbs.size()); }
    /// False when a NaN or an infinity has come in, or a value above 1e19, whose square no float32 holds.
    bool finite() const;

    std::vector<double> sumAbs, sumSquares;
    std::vector<float> maxAbs;
    std::int64_t rows = 0;
};

/// Rows whose sums are float32.
inline constexpr std::int64_t kTileRows = 32;

/// Channels are added in strips; threads share out strips.
inline constexpr std::int64_t kStripChannels = 32;

using Bf16Bits = std::uint16_t;

/// Adds `rowCount` rows of `rows` ([rowCount, channels], contiguous) to one strip. Does not touch ChannelSums::rows.
void addStrip(const float* rows, std::int64_t rowCount, std::int64_t strip, ChannelSums& sums);
void addStrip(const Bf16Bits* rows, std::int64_t rowCount, std::int64_t strip, ChannelSums& sums);

}  // namespace aimerge
