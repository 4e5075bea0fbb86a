#pragma once
// Cutting a row of costs into contiguous parts so that the most expensive part costs as little as possible.

#include <cstddef>
#include <span>
#include <vector>

namespace aimerge {

/// The parts' ends: part p is [ends[p - 1], ends[p]). Every part has at least one element. Among the cuts with the smallest
/// maximum it is the one with the smallest sum of squares, so that the other parts are even too.
/// @pre 1 <= parts <= costs.size(); costs are not negative
std::vector<std::size_t> balanceContiguous(std::span<const double> costs, std::size_t parts);

}  // namespace aimerge
