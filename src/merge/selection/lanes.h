#pragma once
// Sums over elements in an order that vectorises and leaves no trace of how the elements come in chunks: element e adds to
// lane e mod kLanes, one chain of additions per lane, and the lanes are added up in order.

#include "merge/combine/vectorised.h"

#include <array>
#include <cstddef>
#include <numeric>

namespace aimerge {

inline constexpr std::size_t kLanes = 16;

using Lanes = std::array<double, kLanes>;

inline double sumOf(const Lanes& lanes) {
    return std::accumulate(lanes.begin(), lanes.end(), 0.0);
}

/// Adds term(i), a float64, to the lane of element i for i in [0, count), of which element 0 belongs to firstLane. Terms are
/// made by a loop of their own: the compiler vectorises that whatever they are, and the additions whatever they came from.
template <typename Term>
void addToLanes(std::size_t count, std::size_t firstLane, const Term& term, Lanes& lanes) {
    Lanes* const to = &lanes;
    vectorised([=]() AIMERGE_INLINE_BODY {
        constexpr std::size_t kTerms = 32 * kLanes;
        double terms[kTerms];
        std::size_t i = 0;
        for (; i < count && (firstLane + i) % kLanes != 0; ++i) (*to)[(firstLane + i) % kLanes] += term(i);
        double sums[kLanes];  // in registers
        for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] = (*to)[lane];
        while (i + kLanes <= count) {
            const std::size_t made = count - i < kTerms ? (count - i) / kLanes * kLanes : kTerms;
#pragma GCC ivdep
            for (std::size_t k = 0; k < made; ++k) terms[k] = term(i + k);
            for (std::size_t k = 0; k < made; k += kLanes)
                for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += terms[k + lane];
            i += made;
        }
        for (std::size_t lane = 0; lane < kLanes; ++lane) (*to)[lane] = sums[lane];
        for (; i < count; ++i) (*to)[(firstLane + i) % kLanes] += term(i);
    });
}

}  // namespace aimerge
