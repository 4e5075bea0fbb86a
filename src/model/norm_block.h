#pragma once

#include "aimerge/model/layer_state.h"
#include "model/module_gradients.h"

namespace aimerge {

/// @param x [.., channels], contiguous
at::Tensor normalise(const NormDescription& norm, const ModuleWeights& weights, const at::Tensor& x);

/// The gradient of a norm over the last dimension of `x`; those with respect to its parameters go to `modules`.
/// @param number of the norm in the block @return with respect to x
at::Tensor normGradient(const NormDescription& norm, const ModuleWeights& weights, const at::Tensor& x,
                        const at::Tensor& gradient, const ModuleGradients& modules, std::size_t number);

}  // namespace aimerge
