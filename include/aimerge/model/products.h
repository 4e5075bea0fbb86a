#pragma once
// Matrix products by the library that is fastest at them.

#include <ATen/core/Tensor.h>

namespace aimerge {

/// Whether float32 products by oneDNN are faster than those that libtorch takes from MKL: MKL has no AVX-512 for AMD's
/// processors, and reaches half of their rate.
bool isForOneDnn(const at::Tensor& x);

/// a^T b, of a [rows, m] and b [rows, n], in their dtype. @param b may be one of oneDNN (to_mkldnn())
at::Tensor transposedProduct(const at::Tensor& a, const at::Tensor& b);

}  // namespace aimerge
