#pragma once
// By how much trimming shrank a change: the rescale of ties and its relatives.

#include "aimerge/merge/selection.h"

#include <span>
#include <vector>

namespace aimerge {

/// sum |d| / sum |kept d| per request, float64 sums in an order that depends on nothing but the parameter; 1 where either
/// sum is below 1e-7. One pass over the parameter.
/// @param cuts one per request
std::vector<double> rescaleFactors(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                   std::span<const MagnitudeCut> cuts);

}  // namespace aimerge
