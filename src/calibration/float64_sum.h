#pragma once

#include <ATen/core/Tensor.h>

namespace aimerge {

/// sum += product, of float32, without a float64 copy of it. @param sum float64, contiguous
void addTo(at::Tensor& sum, const at::Tensor& product);

}  // namespace aimerge
