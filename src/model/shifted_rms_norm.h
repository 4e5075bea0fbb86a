#pragma once

#include <ATen/ATen.h>

namespace aimerge {

/// Gemma's RMSNorm: one rounding, behind the multiplication by 1 + weight. Can be differentiated.
inline at::Tensor shiftedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
    return (wide * scale * (1 + weight.to(at::kFloat))).to(x.scalar_type());
}

}  // namespace aimerge
