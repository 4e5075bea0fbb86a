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

/// |input[i] - base[i]| as bits, for vectorised loops.
struct ChangeMagnitude {
    const float *base, *input;
    std::uint32_t operator()(std::size_t i) const AIMERGE_INLINE_BODY {
        return bitsOfFloat(input[i] - base[i]) & 0x7FFFFFFFu;
    }
};

/// What a sample leaves of a magnitude, as bits. @param kept 1 or 0 for every element
template <typename Magnitude>
struct Sampled {
    Magnitude magnitude;
    const float* kept;
    std::uint32_t operator()(std::size_t i) const AIMERGE_INLINE_BODY {
        return bitsOfFloat(floatOfBits(magnitude(i)) * kept[i]);
    }
};
template <typename Magnitude>
Sampled(Magnitude, const float*) -> Sampled<Magnitude>;  // clang 14 does not find it by itself

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

/// sum |d| / sum |kept d|, the parts added in order; 1 where either sum is below 1e-7.
double rescaleFactor(std::span<const MagnitudeSums> parts);

/// The same for what each input keeps of a parameter, one factor per input: 1 where everything is kept. One pass over the
/// parameter's other inputs.
std::vector<float> rescaleFactors(ParameterReader& parameter, std::span<const KeptRange> ranges,
                                  std::span<const std::size_t> trimmed);

}  // namespace aimerge
