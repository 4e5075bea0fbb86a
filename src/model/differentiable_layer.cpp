#include "model/differentiable_layer.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
    return weight * (wide * scale).to(x.scalar_type());
}

at::Tensor linear(const LinearWeights& weights, const at::Tensor& x) {
    return at::linear(x, weights.weight, weights.bias);
}

/// [1, length, heads * headDim] as [1, heads, length, headDim].
at::Tensor splitHeads(const at::Tensor& x, std::int64_t headDim) {
    return x.view({x.size(0), x.size(1), -1, headDim}).transpose(1, 2);
}

/// x: [1, heads, length, headDim], rotate-half layout.
at::Tensor rotate(const at::Tensor& x, const RotaryTables& tables) {
    const std::int64_t length = x.size(2);
    const at::Tensor cosines = tables.cosines.narrow(0, 0, length).to(x.scalar_type());
    const at::Tensor sines = tables.sines.narrow(0, 0, length).to(x.scalar_type());
    const auto halves = x.chunk(2, -1);
    return at::cat({halves[0] * cosines - halves[1] * sines, halves[1] * cosines + halves[0] * sines}, -1);
}

at::Tensor attend(const Decoder& decoder, const LayerWeights& weights, const at::Tensor& normalised) {
    const ModelConfig& config = decoder.config();
    const std::int64_t queriesPerKey = config.heads / config.keyValueHeads;
    const RotaryTables& tables = decoder.rotaryTables();
    const at::Tensor query = rotate(splitHeads(linear(weights.query, normalised), config.headDim), tables);
    const at::Tensor key = rotate(splitHeads(linear(weights.key, normalised), config.headDim), tables);
    const at::Tensor value = splitHeads(linear(weights.value, normalised), config.headDim);
    const at::Tensor mixed =
        at::scaled_dot_product_attention(query, key.repeat_interleave(queriesPerKey, 1),
                                         value.repeat_interleave(queriesPerKey, 1), {}, 0.0, /*is_causal=*/true);
    return linear(weights.output, mixed.transpose(1, 2).reshape({normalised.size(0), normalised.size(1), -1}));
}

}  // namespace

at::Tensor differentiableLayer(const Decoder& decoder, const LayerWeights& weights, const at::Tensor& hidden) {
    const double eps = decoder.config().rmsNormEps;
    const at::Tensor attended = hidden + attend(decoder, weights, rmsNorm(hidden, weights.inputNorm, eps));
    const at::Tensor normalised = rmsNorm(attended, weights.postAttentionNorm, eps);
    const at::Tensor inner = at::silu(linear(weights.gate, normalised)) * linear(weights.up, normalised);
    return attended + linear(weights.down, inner);
}

at::Tensor differentiableHead(const Decoder& decoder, const at::Tensor& finalNorm, const at::Tensor& head,
                              const at::Tensor& hidden) {
    return at::linear(rmsNorm(hidden, finalNorm, decoder.config().rmsNormEps), head).squeeze(0).to(at::kFloat);
}

}  // namespace aimerge
