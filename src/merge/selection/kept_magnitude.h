#pragma once
// By how much trimming shrank a change: the rescale of ties and its relatives.

#include "aimerge/core/bfloat.h"
#include "merge/selection/kept_bits.h"
#include "merge/selection/kept_range.h"
#include "merge/selection/lanes.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// sum |d| and sum |kept d| in float64.
struct MagnitudeSums {
    Lanes all{}, kept{};
};

/// |input[i] - base[i]| as bits, for vectorised loops.
struct ChangeMagnitude {
    const float *base, *input;
    std::uint32_t operator()(std::size_t i) const AIMERGE_INLINE_BODY {
        return bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
    }
};

/// @param magnitude |d| of element i as bits, kept what is left of it; for vectorised loops
template <typename Magnitude, typename Kept>
void addMagnitudes(std::size_t count, std::size_t firstLane, const Magnitude& magnitude, const Kept& kept,
                   MagnitudeSums& sums) {
    const auto valueOf = [](const auto& bits) {
        return [=](std::size_t i) AIMERGE_INLINE_BODY { return static_cast<double>(floatOfBits(bits(i))); };
    };
    addToLanes(count, firstLane, valueOf(magnitude), sums.all);
    addToLanes(count, firstLane, valueOf(kept), sums.kept);
}

/// Adds elements [first, first + count) of a row whose bits say what is kept (merge/selection/kept_bits.h).
template <typename Magnitude>
void addSampledMagnitudes(std::size_t count, std::size_t first, const Magnitude& magnitude, const std::uint32_t* words,
                          MagnitudeSums& sums) {
    static_assert(kLanes == kBitLanes);
    MagnitudeSums* const to = &sums;
    vectorised([=]() AIMERGE_INLINE_BODY {
        const auto addOne = [=](std::size_t i) AIMERGE_INLINE_BODY {
            const std::size_t e = first + i;
            const auto value = static_cast<double>(floatOfBits(magnitude(i)));
            to->all[e % kLanes] += value;
            to->kept[e % kLanes] += (words[keptBitWord(e)] & keptBit(e)) != 0 ? value : 0.0;
        };
        std::size_t i = 0;
        for (; i < count && (first + i) % kLanes != 0; ++i) addOne(i);
        double all[kLanes], kept[kLanes];  // in registers
        for (std::size_t lane = 0; lane < kLanes; ++lane) all[lane] = to->all[lane], kept[lane] = to->kept[lane];
        for (; i + kLanes <= count; i += kLanes) {
            const std::uint32_t* const word = words + keptBitWord(first + i);
            const std::uint32_t bit = keptBit(first + i);
            for (std::size_t lane = 0; lane < kLanes; ++lane) {
                const std::uint32_t bits = magnitude(i + lane);
                all[lane] += static_cast<double>(floatOfBits(bits));
                kept[lane] += static_cast<double>(floatOfBits(selectBits((word[lane] & bit) != 0, bits, 0u)));
            }
        }
        for (std::size_t lane = 0; lane < kLanes; ++lane) to->all[lane] = all[lane], to->kept[lane] = kept[lane];
        for (; i < count; ++i) addOne(i);
    });
}

/// sum |d| / sum |kept d|, the parts added in order; 1 where either sum is below 1e-7.
double rescaleFactor(std::span<const MagnitudeSums> parts);

/// The factors for what each input keeps of a parameter, one per input: 1 if everything is kept. One pass over the
/// parameter's other inputs.
std::vector<float> rescaleFactors(ParameterReader& parameter, std::span<const KeptRange> ranges,
                                  std::span<const std::size_t> trimmed);

}  // namespace aimerge
