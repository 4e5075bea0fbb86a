#include "calibration/float64_sum.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

namespace aimerge {

void addTo(at::Tensor& sum, const at::Tensor& product) {
    if (!product.is_cpu()) {
        sum.add_(product);
        return;
    }
    constexpr std::int64_t kElementsPerThread = 65536;
    const float* from = product.const_data_ptr<float>();
    double* to = sum.mutable_data_ptr<double>();
    at::parallel_for(0, sum.numel(), kElementsPerThread, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) to[i] += static_cast<double>(from[i]);
    });
}

}  // namespace aimerge
