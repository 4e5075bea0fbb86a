#pragma once
// The decoder's row-wise arithmetic on tensors of a GPU, queued on libtorch's current stream; roundings are those of
// row_kernels.h, sums of a row have an order of their own. Built with AIMERGE_CUDA.

#include "model/row_kernels.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

struct CUstream_st;

namespace aimerge {

/// x: [..., channels] and weight: [channels], F32 or BF16, contiguous.
at::Tensor rmsNormOnDevice(const at::Tensor& x, const at::Tensor& weight, double eps);

/// x: [sequences, length, heads * headDim], rotated in place.
void rotateOnDevice(at::Tensor& x, const kernels::Rotation& rotation);

}  // namespace aimerge

namespace aimerge::kernels {

/// In row_kernels.cu; pointers are to device memory.
template <typename Element>
void rmsNormOnDevice(const Element* x, const Element* weight, Element* out, std::int64_t rows, std::int64_t channels,
                     float eps, CUstream_st* stream);
template <typename Element>
void rotateOnDevice(Element* rows, std::int64_t rowCount, const Rotation& rotation, CUstream_st* stream);

}  // namespace aimerge::kernels
