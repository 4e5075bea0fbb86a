#pragma once
// Where the k-th largest key of a parameter probably lies, from a sample.

#include "merge/selection/key_bracket.h"
#include "merge/selection/selection.h"

#include <span>
#include <vector>

namespace aimerge {

/// One bracket per request. A pure function of the parameter's values: runs of neighbouring elements at places drawn by a
/// counter-based generator, one in each of equally long stretches.
std::vector<KeyBracket> sampleBrackets(ParameterReader& parameter, std::span<const SelectionRequest> requests,
                                       const SelectionSettings& settings);

}  // namespace aimerge
