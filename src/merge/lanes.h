#pragma once
// Sums over elements in an order that vectorises and leaves no trace of how the elements come in chunks: element e adds to
// lane e mod kLanes, one chain of additions per lane, and the lanes are added up in order.

#include "merge/vectorised.h"

#include <array>
#include <cstddef>
#include <numeric>

namespace aimerge {

inline constexpr std::size_t kLanes = 16;

using Lanes = std::array<double, kLanes>;

inline double sumOf(const Lanes& lanes) {
    return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

/// Calls add(i, lane) for i in [0, count), of which element 0 belongs to firstLane. For bodies of vectorised().
template <typename Add>
AIMERGE_INLINE_BODY inline void forEachLane(std::size_t count, std::size_t firstLane, const Add& add) {
    std::size_t i = 0;
    for (; i < count && (firstLane + i) % kLanes != 0; ++i) add(i, (firstLane + i) % kLanes);
    for (; i + kLanes <= count; i += kLanes)
        for (std::size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
    for (; i < count; ++i) add(i, (firstLane + i) % kLanes);
}

}  // namespace aimerge
