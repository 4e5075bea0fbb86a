#pragma once
// A trim by magnitude: the elements from one cut on and below another, and the stretches in which
// that is one condition on bits.

#include "merge/selection/selection.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace aimerge {

/// The elements that `least` keeps and `dropped` does not.
struct KeptRange {
    MagnitudeCut least{0, 0};
    MagnitudeCut dropped = MagnitudeCut::keepNone();

    static KeptRange all() { return {}; }
    static KeptRange none() { return from(MagnitudeCut::keepNone()); }
    /// What `cut` keeps.
    static KeptRange from(MagnitudeCut cut) { return {cut, MagnitudeCut::keepNone()}; }
};

/// As bits: magnitudes in [least, dropped).
struct MagnitudeBits {
    std::vector<std::uint32_t> least, dropped;  // per range
};

/// Calls use(bits, offset, count) for the parts of elements [first, first + count) in which no rule changes.
template <typename Use>
void forEachUniformRun(std::span<const KeptRange> ranges, std::int64_t first, std::size_t count, const Use& use) {
    MagnitudeBits bits{std::vector<std::uint32_t>(ranges.size()), std::vector<std::uint32_t>(ranges.size())};
    for (std::size_t begin = 0; begin < count;) {
        const std::int64_t index = first + static_cast<std::int64_t>(begin);
        std::size_t end = count;
        const auto atMost = [&](std::int64_t change) {
            if (change > index) end = std::min(end, begin + static_cast<std::size_t>(change - index));
        };
        for (std::size_t i = 0; i < ranges.size(); ++i) {
            bits.least[i] = ranges[i].least.leastKeptAt(index);
            bits.dropped[i] = ranges[i].dropped.leastKeptAt(index);
            atMost(ranges[i].least.equalEnd);
            atMost(ranges[i].dropped.equalEnd);
        }
        use(bits, begin, end - begin);
        begin = end;
    }
}

}  // namespace aimerge
