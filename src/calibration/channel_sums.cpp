#include "calibration/channel_sums.h"

#include "aimerge/core/bfloat.h"
#include "aimerge/model/cpu_clones.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

/// Up to 32 rows of a strip as float32, missing channels 0: fits the first-level cache.
struct Tile {
    float values[kTileRows][kStripChannels];
    std::int64_t rows;
};

struct TileSums {
    float sumAbs[kStripChannels], sumSquares[kStripChannels], maxAbs[kStripChannels];
};

// Bodies are inlined into the clones, so that each is compiled for its processor.
template <typename Element>
[[gnu::always_inline]] inline void loadBody(const Element* rows, std::int64_t stride, std::int64_t width, Tile& tile) {
    for (std::int64_t row = 0; row < tile.rows; ++row, rows += stride) {
        if (width == kStripChannels) {  // the usual case, with a trip count the compiler knows
            for (std::int64_t c = 0; c < kStripChannels; ++c) tile.values[row][c] = widen(rows[c]);
        } else {
            for (std::int64_t c = 0; c < width; ++c) tile.values[row][c] = widen(rows[c]);
        }
    }
}

AIMERGE_CPU_CLONES void load(const float* rows, std::int64_t stride, std::int64_t width, Tile& tile) {
    loadBody(rows, stride, width, tile);
}

AIMERGE_CPU_CLONES void load(const Bf16Bits* rows, std::int64_t stride, std::int64_t width, Tile& tile) {
    loadBody(rows, stride, width, tile);
}

AIMERGE_CPU_CLONES void sum(const Tile& tile, TileSums& result) {
    TileSums sums{};
    for (std::int64_t row = 0; row < tile.rows; ++row) {
        const float* values = tile.values[row];
        for (std::int64_t c = 0; c < kStripChannels; ++c) {
            const float magnitude = std::fabs(values[c]);
            sums.sumAbs[c] += magnitude;
            sums.sumSquares[c] += magnitude * magnitude;
            sums.maxAbs[c] = magnitude > sums.maxAbs[c] ? magnitude : sums.maxAbs[c];
        }
    }
    result = sums;
}

template <typename Element>
void addStripOf(const Element* rows, std::int64_t rowCount, std::int64_t strip, ChannelSums& sums) {
    const std::int64_t stride = sums.channels();
    const std::int64_t firstChannel = strip * kStripChannels;
    const std::int64_t width = std::min(kStripChannels, stride - firstChannel);
    Tile tile{};
    TileSums tileSums;
    for (std::int64_t first = 0; first < rowCount; first += kTileRows) {
        tile.rows = std::min(kTileRows, rowCount - first);
        load(rows + first * stride + firstChannel, stride, width, tile);
        sum(tile, tileSums);
        for (std::int64_t c = 0; c < width; ++c) {
            const auto channel = static_cast<std::size_t>(firstChannel + c);
            sums.sumAbs[channel] += tileSums.sumAbs[c];
            sums.sumSquares[channel] += tileSums.sumSquares[c];
            sums.maxAbs[channel] = std::max(sums.maxAbs[channel], tileSums.maxAbs[c]);
        }
    }
}

}  // namespace

ChannelSums::ChannelSums(std::int64_t channels)
    : sumAbs(static_cast<std::size_t>(channels)),
      sumSquares(static_cast<std::size_t>(channels)),
      maxAbs(static_cast<std::size_t>(channels)) {}

bool ChannelSums::finite() const {
    // Sums of magnitudes: one that is not finite makes the total so, and nothing cancels.
    double total = 0;
    for (const double value : sumAbs) total += value;
    for (const double value : sumSquares) total += value;
    return std::isfinite(total);
}

void addStrip(const float* rows, std::int64_t rowCount, std::int64_t strip, ChannelSums& sums) {
    addStripOf(rows, rowCount, strip, sums);
}

void addStrip(const Bf16Bits* rows, std::int64_t rowCount, std::int64_t strip, ChannelSums& sums) {
    addStripOf(rows, rowCount, strip, sums);
}

}  // namespace aimerge
