#pragma once
// The values of a method's parameters for one output tensor, from the places where a config may set them.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/parameter_lookup.h"
#include "aimerge/merge/method.h"

#include <cstddef>
#include <span>
#include <vector>

namespace aimerge {

/// Which models of a ModelSet a method sees as its inputs, in order: all, or all but the base where it is treated apart.
/// @param models how many the set has; @param baseIndex of base_model within it
std::vector<std::size_t> methodInputs(const MethodInfo& method, std::size_t models, std::optional<std::size_t> baseIndex);

/// @param inputs from methodInputs(): indices beyond config.models are a base_model that is not listed, which only the
///        global parameters speak of
/// @param tensor the output tensor
/// @throws UsageError: a required parameter has no value for this tensor (names tensor, parameter and model), or the value
///         is no number
ResolvedParameters resolveParameters(const MethodInfo& method, const MergeConfig& config,
                                     std::span<const std::size_t> inputs, const TensorPlace& tensor);

}  // namespace aimerge
