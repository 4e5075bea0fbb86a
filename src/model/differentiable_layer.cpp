#include "model/differentiable_layer.h"

#include "model/attention.h"
#include "model/decoder_family.h"
#include "model/projections.h"
#include "model/shifted_rms_norm.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

at::Tensor rmsNorm(const Decoder& decoder, const at::Tensor& x, const at::Tensor& weight) {
    const double eps = decoder.config().rmsNormEps;
    if (decoder.family().shiftsNorms) return shiftedRmsNorm(x, weight, eps);
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
    const std::int64_t half = cosines.size(1), rest = x.size(3) - 2 * half;
    const at::Tensor first = x.narrow(3, 0, half), second = x.narrow(3, half, half);
    std::vector<at::Tensor> parts{first * cosines - second * sines, second * cosines + first * sines};
    if (rest > 0) parts.push_back(x.narrow(3, 2 * half, rest));
    return at::cat(parts, -1);
}

at::Tensor attend(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights, const at::Tensor& normalised) {
    const ModelConfig& config = decoder.config();
    const std::int64_t queriesPerKey = config.heads / config.keyValueHeads;
    const AttentionInputs inputs = attentionInputs(config, weights);
    at::Tensor query = splitHeads(linear(inputs.query, normalised), config.headDim);
    at::Tensor key = splitHeads(linear(inputs.key, normalised), config.headDim);
    const at::Tensor value = splitHeads(linear(inputs.value, normalised), config.headDim);
    if (decoder.family().normalisesHeads) {
        query = rmsNorm(decoder, query, weights.queryNorm);
        key = rmsNorm(decoder, key, weights.keyNorm);
    }
    const at::Tensor mixed = attention(config, layer, rotate(query, decoder.rotaryTables()),
                                       rotate(key, decoder.rotaryTables()).repeat_interleave(queriesPerKey, 1),
                                       value.repeat_interleave(queriesPerKey, 1));
    return linear(weights.output, mixed);
}

at::Tensor feedForward(const Decoder& decoder, const LayerWeights& weights, const at::Tensor& normalised) {
    const MlpInputs inputs = mlpInputs(decoder.config(), weights);
    const at::Tensor gate = linear(inputs.gate, normalised);
    const at::Tensor active = decoder.config().activation == "silu" ? at::silu(gate) : at::gelu(gate, "tanh");
    return linear(weights.down, active * linear(inputs.up, normalised));
}

}  // namespace

at::Tensor differentiableLayer(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights,
                               const at::Tensor& hidden) {
    const at::Tensor attended = attend(decoder, layer, weights, rmsNorm(decoder, hidden, weights.inputNorm));
    if (!decoder.family().normalisesOutputs) {
        const at::Tensor between = hidden + attended;
        return between + feedForward(decoder, weights, rmsNorm(decoder, between, weights.postAttentionNorm));
    }
    const at::Tensor between = hidden + rmsNorm(decoder, attended, weights.postAttentionNorm);
    const at::Tensor fed = feedForward(decoder, weights, rmsNorm(decoder, between, weights.preFeedforwardNorm));
    return between + rmsNorm(decoder, fed, weights.postFeedforwardNorm);
}

at::Tensor differentiableHead(const Decoder& decoder, const at::Tensor& finalNorm, const at::Tensor& head,
                              const at::Tensor& hidden) {
    const at::Tensor logits = at::linear(rmsNorm(decoder, hidden, finalNorm), head).squeeze(0);
    const double cap = decoder.config().logitSoftcap;
    return (cap > 0 ? at::tanh(logits / cap) * cap : logits).to(at::kFloat);
}

}  // namespace aimerge
