#pragma once
// Tensors of a model as contiguous libtorch tensors in the compute dtype.

#include "aimerge/checkpoint/weight_source.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace aimerge {

/// @throws InputError for types that hold no plain floating numbers
at::ScalarType floatingType(const WeightSource& weights, const TensorInfo& tensor);

/// The tensor, or InputError when it is absent or not of this shape.
const TensorInfo& requireTensor(const WeightSource& weights, const std::string& name, const Shape& shape);

/// Reads and converts the whole tensor, on libtorch's threads; besides the result it takes a few MB for each of them, whatever
/// the tensor's size. Reading goes on while the parts before are on their way to a GPU.
at::Tensor loadTensor(const WeightSource& weights, const TensorInfo& tensor, at::ScalarType computeType, at::Device device);

}  // namespace aimerge
