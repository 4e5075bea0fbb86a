#include "aimerge/model/gradient.h"

#include "model/differentiable_layer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace aimerge {
namespace {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// The layer's parameters by name; each tensor is the one in `weights`.
NamedTensors parametersOf(std::int64_t layer, const LayerWeights& weights) {
    NamedTensors named;
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const auto addNorm = [&](const char* module, const at::Tensor& weight) {
        if (weight.defined()) named.emplace_back(fmt::format("{}{}.weight", prefix, module), weight);
    };
    const auto add = [&](const char* module, const LinearWeights& linear) {
        if (!linear.weight.defined()) return;
        named.emplace_back(fmt::format("{}{}.weight", prefix, module), linear.weight);
        if (linear.bias.defined()) named.emplace_back(fmt::format("{}{}.bias", prefix, module), linear.bias);
    };
    addNorm("input_layernorm", weights.inputNorm);
    add("self_attn.qkv_proj", weights.attentionInput);
    add("self_attn.q_proj", weights.query);
    add("self_attn.k_proj", weights.key);
    add("self_attn.v_proj", weights.value);
    addNorm("self_attn.q_norm", weights.queryNorm);
    addNorm("self_attn.k_norm", weights.keyNorm);
    add("self_attn.o_proj", weights.output);
    addNorm("post_attention_layernorm", weights.postAttentionNorm);
    addNorm("pre_feedforward_layernorm", weights.preFeedforwardNorm);
    add("mlp.gate_up_proj", weights.mlpInput);
    add("mlp.gate_proj", weights.gate);
    add("mlp.up_proj", weights.up);
    add("mlp.down_proj", weights.down);
    addNorm("post_feedforward_layernorm", weights.postFeedforwardNorm);
    return named;
}

/// Gradients of sum(output * outputGradient) with respect to the parameters and, last, to `input`.
std::vector<at::Tensor> gradients(const at::Tensor& output, const at::Tensor& outputGradient, const NamedTensors& parameters,
                                  const at::Tensor& input) {
    std::vector<at::Tensor> leaves;
    for (const auto& [name, tensor] : parameters) leaves.push_back(tensor);
    leaves.push_back(input);
    return torch::autograd::grad({output}, leaves, {outputGradient});
}

class Differentiation {
public:
    Differentiation(const Decoder& decoder, std::span<const std::int32_t> ids, std::int64_t length,
                    GradientObserver& observer)
        : decoder_(decoder),
          ids_(ids),
          length_(static_cast<std::size_t>(length)),
          sequences_(ids.size() / length_),
          observer_(observer) {}

    void forward() {
        const at::NoGradGuard noGraph;
        inputs_.resize(static_cast<std::size_t>(decoder_.layers()));
        for (std::size_t s = 0; s < sequences_; ++s) {
            states_.push_back(decoder_.emptyHidden(1, static_cast<std::int64_t>(length_)));
            decoder_.embed(idsOf(s), states_.back());
        }
        for (std::int64_t layer = 0; layer < decoder_.layers(); ++layer) {
            const LayerWeights weights = decoder_.loadLayer(layer);
            for (at::Tensor& state : states_) {
                inputs_[static_cast<std::size_t>(layer)].push_back(state.clone());
                decoder_.runLayer(layer, weights, state, nullptr);
            }
            observer_.stop();
        }
    }

    /// Afterwards states_ are gradients of the last layer's output.
    void backwardThroughHead(const SequenceLoss& loss) {
        const NamedTensors parameters{{"model.norm.weight", decoder_.loadFinalNorm().set_requires_grad(true)},
                                      {"lm_head.weight", decoder_.loadHead().set_requires_grad(true)}};
        for (std::size_t s = 0; s < sequences_; ++s) {
            const at::Tensor input = states_[s].detach().set_requires_grad(true);
            const at::Tensor logits = differentiableHead(decoder_, parameters[0].second, parameters[1].second, input);
            const at::Tensor value = loss(logits, idsOf(s));
            const auto found = gradients(value, at::ones_like(value), parameters, input);
            observer_.observe(parameters[0].first, found[0]);
            if (decoder_.config().tieWordEmbeddings)
                tiedHead_.push_back(found[1]);
            else
                observer_.observe(parameters[1].first, found[1]);
            states_[s] = found[2];
        }
        observer_.stop();
    }

    /// states_ become gradients of the layer's input.
    void backwardThroughLayer(std::int64_t layer) {
        const LayerWeights weights = decoder_.loadLayer(layer);
        const NamedTensors parameters = parametersOf(layer, weights);
        for (const auto& [name, tensor] : parameters) tensor.set_requires_grad(true);
        std::vector<at::Tensor>& inputs = inputs_[static_cast<std::size_t>(layer)];
        for (std::size_t s = 0; s < sequences_; ++s) {
            const at::Tensor input = std::exchange(inputs[s], {}).set_requires_grad(true);
            const auto found =
                gradients(differentiableLayer(decoder_, layer, weights, input), states_[s], parameters, input);
            for (std::size_t p = 0; p < parameters.size(); ++p) observer_.observe(parameters[p].first, found[p]);
            states_[s] = found.back();
        }
        observer_.stop();
    }

    void backwardThroughEmbedding() {
        for (std::size_t s = 0; s < sequences_; ++s) {
            at::Tensor gradient = decoder_.config().tieWordEmbeddings
                                      ? tiedHead_[s].to(at::kFloat)
                                      : at::zeros({decoder_.config().vocabSize, decoder_.hiddenSize()},
                                                  at::TensorOptions(at::kFloat).device(decoder_.device()));
            const std::span<const std::int32_t> ids = idsOf(s);
            // Token by token, in order: the bits must not depend on threads.
            for (std::size_t t = 0; t < ids.size(); ++t)
                gradient.select(0, ids[t]).add_(states_[s].select(0, 0).select(0, static_cast<std::int64_t>(t)),
                                                embeddingScale_);
            observer_.observe("model.embed_tokens.weight", gradient);
        }
    }

private:
    std::span<const std::int32_t> idsOf(std::size_t sequence) const { return ids_.subspan(sequence * length_, length_); }

    const Decoder& decoder_;
    std::span<const std::int32_t> ids_;
    std::size_t length_, sequences_;
    GradientObserver& observer_;
    std::vector<at::Tensor> states_;               // per sequence: the hidden state, then its gradient
    std::vector<std::vector<at::Tensor>> inputs_;  // per layer and sequence
    std::vector<at::Tensor> tiedHead_;             // per sequence: the gradient of a tied head
    double embeddingScale_ = decoder_.embeddingScale();
};

}  // namespace

void differentiate(const Decoder& decoder, std::span<const std::int32_t> ids, std::int64_t length, const SequenceLoss& loss,
                   GradientObserver& observer) {
    Differentiation work(decoder, ids, length, observer);
    work.forward();
    work.backwardThroughHead(loss);
    for (std::int64_t layer = decoder.layers(); layer-- > 0;) work.backwardThroughLayer(layer);
    work.backwardThroughEmbedding();
}

}  // namespace aimerge
