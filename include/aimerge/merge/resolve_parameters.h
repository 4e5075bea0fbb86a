#pragma once
// The values of a method's parameters for one output tensor, from the places where a config may set them.

#include "aimerge/checkpoint/model_set.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/config/parameter_lookup.h"
#include "aimerge/merge/method.h"

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace aimerge {

/// Which inputs of a slice a method sees as its own, in order: all, or all but the base where it is treated apart.
std::vector<std::size_t> methodInputs(const MethodInfo& method, const ModelSlice& slice);

/// What merges a tensor, and of which of the slice's inputs.
struct TensorMethod {
    const Method* method;
    std::vector<std::size_t> inputs;
};

/// The method and its inputs that have the tensor. Where these are fewer than it needs (a base alone; with --allow-crimes a
/// tensor that some models have not), passthrough of the slice's reference, which changes nothing.
TensorMethod methodFor(const Method& method, const ModelSlice& slice, const MatchedTensor& matched);

struct InputPlace {
    std::size_t input = 0;  // of the slice; beyond its sources: the base that is no source, of which the slice, the module
                            // and the global parameters speak
    std::string_view
        name;  // what the input calls the tensor, which the filters of parameters with one value per input match
};

/// @param inputs as methodInputs() lists them
/// @param tensor the output tensor
/// @throws UsageError: a required parameter has no value for this tensor (names tensor, parameter and model), or the value
///         is no number
ResolvedParameters resolveParameters(const MethodInfo& method, const MergeConfig& config, std::span<const InputPlace> inputs,
                                     const TensorPlace& tensor);

}  // namespace aimerge
