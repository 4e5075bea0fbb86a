#include "model/xielu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace aimerge {
namespace {

/// Calls work(first, count) on parts of so many elements that what is computed of them in between stays in the cache.
template <typename Work>
void overParts(const at::Tensor& x, const Work& work) {
    constexpr std::int64_t kElementsAtOnce = 1 << 14;
    if (!x.is_cpu()) return work(0, x.numel());
    const bool isInference = c10::InferenceMode::is_enabled();  // a mode of this thread alone
    at::parallel_for(0, (x.numel() + kElementsAtOnce - 1) / kElementsAtOnce, 1, [&](std::int64_t begin, std::int64_t end) {
        const c10::InferenceMode inference(isInference);
        for (std::int64_t part = begin; part < end; ++part) {
            const std::int64_t first = part * kElementsAtOnce;
            work(first, std::min(kElementsAtOnce, x.numel() - first));
        }
    });
}

at::Tensor wide(const at::Tensor& flat, std::int64_t first, std::int64_t count) {
    return flat.narrow(0, first, count).to(at::kFloat);
}

/// One value, of the same bits for any number of threads: rows are added up by one thread each.
at::Tensor sumOf(const at::Tensor& x) {
    return x.flatten(0, -2).sum(-1).cumsum(0).narrow(0, -1, 1);
}

}  // namespace

Xielu::Xielu(BlockWeights numbers)
    : alphaP_(numbers[0].weight.to(at::kFloat)),
      alphaN_(numbers[1].weight.to(at::kFloat)),
      beta_(numbers[2].weight.to(at::kFloat)),
      eps_(numbers[3].weight.to(at::kFloat)),
      positive_(at::softplus(alphaP_)),
      negative_(beta_ + at::softplus(alphaN_)) {}

void Xielu::apply(at::Tensor& x) const {
    const at::Tensor flat = x.view({-1});
    overParts(flat, [&](std::int64_t first, std::int64_t count) {
        const at::Tensor in = wide(flat, first, count);
        const at::Tensor positive = at::mul(in, positive_).mul_(in);
        const at::Tensor negative = at::minimum(in, eps_).expm1_().sub_(in).mul_(negative_);
        flat.narrow(0, first, count).copy_(at::where(in > 0, positive, negative).add_(at::mul(in, beta_)));
    });
}

at::Tensor Xielu::inputGradient(const at::Tensor& gradient, const at::Tensor& x) const {
    at::Tensor result = at::empty_like(x);
    const at::Tensor flat = x.view({-1}), by = gradient.view({-1}), out = result.view({-1});
    overParts(flat, [&](std::int64_t first, std::int64_t count) {
        const at::Tensor in = wide(flat, first, count);
        const at::Tensor positive = at::mul(in, positive_).mul_(2);
        const at::Tensor negative = at::exp(in).mul_(in < eps_).sub_(1).mul_(negative_);
        out.narrow(0, first, count).copy_(at::where(in > 0, positive, negative).add_(beta_).mul_(wide(by, first, count)));
    });
    return result;
}

Xielu::NumberGradients Xielu::numberGradients(const at::Tensor& gradient, const at::Tensor& x) const {
    const at::Tensor in = x.to(at::kFloat), by = gradient.to(at::kFloat);
    const at::Tensor isPositive = in > 0;
    const at::Tensor ofPositive = (by * in * in).mul_(isPositive);
    const at::Tensor ofNegative = at::minimum(in, eps_).expm1_().sub_(in).mul_(by).masked_fill_(isPositive, 0);
    return {sumOf(ofPositive) * at::sigmoid(alphaP_), sumOf(ofNegative) * at::sigmoid(alphaN_)};
}

}  // namespace aimerge
