#include "model/device_rows.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>

namespace aimerge {
namespace {

CUstream_st* currentStream(const at::Tensor& tensor) {
    return c10::cuda::getCurrentCUDAStream(tensor.device().index()).stream();
}

template <typename Element>
void rmsNormTensor(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, double eps) {
    const std::int64_t channels = x.size(-1);
    kernels::rmsNormOnDevice(static_cast<const Element*>(x.const_data_ptr()),
                             static_cast<const Element*>(weight.const_data_ptr()), static_cast<Element*>(out.data_ptr()),
                             x.numel() / channels, channels, static_cast<float>(eps), currentStream(x));
}

}  // namespace

at::Tensor rmsNormOnDevice(const at::Tensor& x, const at::Tensor& weight, double eps) {
    at::Tensor out = at::empty_like(x);
    if (x.scalar_type() == at::kFloat)
        rmsNormTensor<float>(x, weight, out, eps);
    else
        rmsNormTensor<kernels::Bf16>(x, weight, out, eps);
    return out;
}

void rotateOnDevice(at::Tensor& x, const kernels::Rotation& rotation) {
    const std::int64_t rows = x.size(0) * x.size(1);
    if (x.scalar_type() == at::kFloat)
        kernels::rotateOnDevice(static_cast<float*>(x.data_ptr()), rows, rotation, currentStream(x));
    else
        kernels::rotateOnDevice(static_cast<kernels::Bf16*>(x.data_ptr()), rows, rotation, currentStream(x));
}

}  // namespace aimerge
