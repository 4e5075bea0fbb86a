#include "model/norm_block.h"

#include "model/block.h"
#include "model/over_rows.h"
#include "model/row_kernels.h"
#if AIMERGE_HAS_CUDA
#include "model/device_rows.h"
#endif

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace aimerge {
namespace {

// ---- forward

template <typename Element>
void rmsNormOnHost(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, double eps) {
    const std::int64_t channels = x.size(-1);
    const auto* in = static_cast<const Element*>(x.const_data_ptr());
    const auto* scale = static_cast<const Element*>(weight.const_data_ptr());
    auto* result = static_cast<Element*>(out.data_ptr());
    overRows(x.numel() / channels, channels, [&](std::int64_t first, std::int64_t count) {
        kernels::rmsNorm(in + first * channels, scale, result + first * channels, count, channels, static_cast<float>(eps));
    });
}

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
#if AIMERGE_HAS_CUDA
    if (x.is_cuda()) return rmsNormOnDevice(x, weight, eps);
#endif
    at::Tensor out = at::empty_like(x);
    if (x.scalar_type() == at::kFloat) {
        rmsNormOnHost<float>(x, weight, out, eps);
    } else {
        rmsNormOnHost<kernels::Bf16>(x, weight, out, eps);
    }
    return out;
}

template <typename Element>
void scaleRowsOnHost(const at::Tensor& x, const at::Tensor& scales, const at::Tensor& factors, at::Tensor& out) {
    const std::int64_t channels = x.size(-1);
    const auto* in = static_cast<const Element*>(x.const_data_ptr());
    const auto *ofRows = scales.const_data_ptr<float>(), *ofChannels = factors.const_data_ptr<float>();
    auto* result = static_cast<Element*>(out.data_ptr());
    overRows(scales.numel(), channels, [&](std::int64_t first, std::int64_t count) {
        kernels::scaleRows(in + first * channels, ofRows + first, ofChannels, result + first * channels, count, channels);
    });
}

/// One rounding, behind the multiplication by the factors, float32.
at::Tensor rmsNormRoundedOnce(const at::Tensor& x, const at::Tensor& factors, double eps) {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor scales = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
    if (!x.is_cpu()) return (wide * scales * factors).to(x.scalar_type());
    at::Tensor out = at::empty_like(x);
    if (x.scalar_type() == at::kFloat)
        scaleRowsOnHost<float>(x, scales, factors, out);
    else
        scaleRowsOnHost<kernels::Bf16>(x, scales, factors, out);
    return out;
}

// ---- backward

/// With respect to x, its weight and its bias; the latter two float32.
struct NormGradients {
    at::Tensor x, weight, bias;
};

template <typename Element>
void normGradientOfRows(const at::Tensor& x, const at::Tensor& factor, const at::Tensor& gradient, at::Tensor& result,
                        at::Tensor& sums, std::int64_t rowsPerSum, double eps) {
    const std::int64_t channels = x.size(1), rows = x.size(0);
    const auto* const in = static_cast<const Element*>(x.const_data_ptr());
    const auto* const by = static_cast<const Element*>(gradient.const_data_ptr());
    const auto* const scale = factor.const_data_ptr<float>();
    auto* const out = static_cast<Element*>(result.data_ptr());
    auto* const sum = sums.mutable_data_ptr<float>();
    at::parallel_for(0, sums.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t part = begin; part < end; ++part) {
            const std::int64_t first = part * rowsPerSum, at = first * channels;
            kernels::rmsNormGradient(in + at, scale, by + at, out + at, sum + part * channels,
                                     std::min(rowsPerSum, rows - first), channels, static_cast<float>(eps));
        }
    });
}

NormGradients rmsNormGradients(const at::Tensor& x, const at::Tensor& factor, const at::Tensor& gradient, double eps) {
    if (!x.is_cpu()) {
        const at::Tensor wide = x.to(at::kFloat), by = gradient.to(at::kFloat);
        const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
        const at::Tensor normal = wide * scale, byNormal = by * factor;
        const at::Tensor along = (byNormal * normal).mean(-1, /*keepdim=*/true);
        return {((byNormal - normal * along) * scale).to(x.scalar_type()), (by * normal).sum(0), {}};
    }
    constexpr std::int64_t kRowsPerSum = 32;  // parts of the sum over rows, which no number of threads changes
    at::Tensor result = at::empty_like(x);
    at::Tensor sums = at::empty({(x.size(0) + kRowsPerSum - 1) / kRowsPerSum, x.size(1)}, factor.options());
    if (x.scalar_type() == at::kFloat)
        normGradientOfRows<float>(x, factor, gradient, result, sums, kRowsPerSum, eps);
    else
        normGradientOfRows<kernels::Bf16>(x, factor, gradient, result, sums, kRowsPerSum, eps);
    return {result, sums.sum(0), {}};
}

NormGradients layerNormGradients(const at::Tensor& x, const at::Tensor& factor, const at::Tensor& gradient, double eps) {
    const at::Tensor wide = x.to(at::kFloat), by = gradient.to(at::kFloat);
    const at::Tensor centred = wide - wide.mean(-1, /*keepdim=*/true);
    const at::Tensor scale = at::rsqrt(centred.square().mean(-1, /*keepdim=*/true) + eps);
    const at::Tensor normal = centred * scale, byNormal = by * factor;
    const at::Tensor along = (byNormal * normal).mean(-1, /*keepdim=*/true), mean = byNormal.mean(-1, /*keepdim=*/true);
    return {((byNormal - mean - normal * along) * scale).to(x.scalar_type()), (by * normal).sum(0), by.sum(0)};
}

class NormBlock : public Block {
public:
    explicit NormBlock(const NormDescription& norm) : norm_(norm) {}

    std::int64_t stops() const override { return 1; }
    at::Tensor inputAt(std::int64_t /*stop*/, const LayerState& state) const override { return state.at(norm_.from); }

    void forward(std::int64_t /*stop*/, BlockWeights weights, LayerState& state, Tensors* kept,
                 Tensors* /*outputs*/) const override {
        const at::Tensor x = state.at(norm_.from);
        if (kept) *kept = {x};
        state.at(norm_.to) = normalise(norm_, weights.front(), x);
    }

    void backward(BlockWeights weights, const Tensors& kept, LayerGradient& gradient,
                  const ModuleGradients& modules) const override {
        gradient.add(norm_.from, normGradient(norm_, weights.front(), kept.front(), gradient.at(norm_.to), modules, 0));
    }

private:
    NormDescription norm_;
};

}  // namespace

at::Tensor normalise(const NormDescription& norm, const ModuleWeights& weights, const at::Tensor& x) {
    switch (norm.kind) {
        case NormKind::RmsRoundedOnce:
            return rmsNormRoundedOnce(x, weights.weight.to(at::kFloat), norm.eps);
        case NormKind::RmsShifted:
            return rmsNormRoundedOnce(x, 1 + weights.weight.to(at::kFloat), norm.eps);
        case NormKind::Layer:
        case NormKind::LayerShifted:
            return at::layer_norm(x, {norm.channels}, norm.kind == NormKind::Layer ? weights.weight : weights.weight + 1,
                                  weights.bias.defined() ? std::optional(weights.bias) : std::nullopt, norm.eps);
        case NormKind::Rms:
            break;
    }
    return rmsNorm(x, weights.weight, norm.eps);
}

at::Tensor normGradient(const NormDescription& norm, const ModuleWeights& weights, const at::Tensor& x,
                        const at::Tensor& gradient, const ModuleGradients& modules, std::size_t number) {
    at::Tensor factor = weights.weight.to(at::kFloat);
    if (norm.kind == NormKind::RmsShifted || norm.kind == NormKind::LayerShifted) factor = factor + 1;
    const bool hasMean = norm.kind == NormKind::Layer || norm.kind == NormKind::LayerShifted;
    const auto gradients = hasMean ? layerNormGradients : rmsNormGradients;
    const NormGradients by = gradients(x.flatten(0, -2), factor, gradient.flatten(0, -2).contiguous(), norm.eps);
    modules.observe(number, weights, by.weight, by.bias);
    return by.x.view(x.sizes());
}

std::unique_ptr<Block> makeBlock(const NormDescription& norm) {
    return std::make_unique<NormBlock>(norm);
}

}  // namespace aimerge
