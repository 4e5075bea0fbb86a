#pragma once
// By how much trimming shrank a change: the rescale of ties and its relatives.

#include "aimerge/core/bfloat.h"
#include "merge/kept_range.h"
#include "merge/vectorised.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// sum |d| and sum |kept d| in float64. Element i of what is summed adds to lane i mod kLanes: one chain of additions per
/// lane, however the elements come in chunks.
struct MagnitudeSums {
    static constexpr std::size_t kLanes = 16;
    std::array<double, kLanes> all{}, kept{};
};

/// @param kept whether element i with that magnitude, as bits, is kept; for vectorised loops
template <typename Kept>
void addMagnitudes(const float* base, const float* input, std::size_t count, std::size_t firstLane, const Kept& kept,
                   MagnitudeSums& sums) {
    constexpr std::size_t kLanes = MagnitudeSums::kLanes;
    MagnitudeSums* const to = &sums;
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto add = [&](std::size_t i, std::size_t lane) AIMERGE_INLINE_BODY {
            const std::uint32_t magnitude = bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
            to->all[lane] += floatOfBits(magnitude);
            to->kept[lane] += floatOfBits(selectBits(kept(i, magnitude), magnitude, 0u));
        };
        std::size_t i = 0;
        for (; i < count && (firstLane + i) % kLanes != 0; ++i) add(i, (firstLane + i) % kLanes);
        for (; i + kLanes <= count; i += kLanes)
            for (std::size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
        for (; i < count; ++i) add(i, (firstLane + i) % kLanes);
    });
}

/// sum |d| / sum |kept d|, the parts added in order; 1 where either sum is below 1e-7.
double rescaleFactor(std::span<const MagnitudeSums> parts);

/// The same for what each input keeps of a parameter, one factor per input: 1 where everything is kept. One pass over the
/// parameter's other inputs.
std::vector<float> rescaleFactors(ParameterReader& parameter, std::span<const KeptRange> ranges,
                                  std::span<const std::size_t> trimmed);

}  // namespace aimerge
