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

/// Adds term(i), a float64, to the lane of element i for i in [0, count), of which element 0 belongs to firstLane.
template <typename Term>
void addToLanes(std::size_t count, std::size_t firstLane, const Term& term, Lanes& lanes) {
    Lanes* const to = &lanes;
    vectorised([=]() AIMERGE_INLINE_BODY {
        std::size_t i = 0;
        for (; i < count && (firstLane + i) % kLanes != 0; ++i) (*to)[(firstLane + i) % kLanes] += term(i);
        double sums[kLanes];  // in registers
        for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] = (*to)[lane];
        for (; i + kLanes <= count; i += kLanes)
            for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += term(i + lane);
        for (std::size_t lane = 0; lane < kLanes; ++lane) (*to)[lane] = sums[lane];
        for (; i < count; ++i) (*to)[(firstLane + i) % kLanes] += term(i);
    });
}

}  // namespace aimerge
