#pragma once
// By how much trimming shrank a change: the rescale of ties and its relatives.

#include "aimerge/core/bfloat.h"
#include "merge/kept_range.h"
#include "merge/lanes.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// sum |d| and sum |kept d| in float64.
struct MagnitudeSums {
    Lanes all{}, kept{};
};

/// @param kept whether element i with that magnitude, as bits, is kept; for vectorised loops
template <typename Kept>
void addMagnitudes(const float* base, const float* input, std::size_t count, std::size_t firstLane, const Kept& kept,
                   MagnitudeSums& sums) {
    MagnitudeSums* const to = &sums;
    vectorised([=]() AIMERGE_INLINE_BODY {
        forEachLane(count, firstLane, [&](std::size_t i, std::size_t lane) AIMERGE_INLINE_BODY {
            const std::uint32_t magnitude = bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
            to->all[lane] += floatOfBits(magnitude);
            to->kept[lane] += floatOfBits(selectBits(kept(i, magnitude), magnitude, 0u));
        });
    });
}

/// sum |d| / sum |kept d|, the parts added in order; 1 where either sum is below 1e-7.
double rescaleFactor(std::span<const MagnitudeSums> parts);

/// The same for what each input keeps of a parameter, one factor per input: 1 where everything is kept. One pass over the
/// parameter's other inputs.
std::vector<float> rescaleFactors(ParameterReader& parameter, std::span<const KeptRange> ranges,
                                  std::span<const std::size_t> trimmed);

}  // namespace aimerge
