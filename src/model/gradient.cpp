#include "aimerge/model/gradient.h"

#include "model/differentiable_layer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <fmt/format.h>

#include <algorithm>
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

}  // namespace

StageGradient::StageGradient(const Decoder& decoder, std::int64_t firstLayer, std::int64_t endLayer, std::int64_t length,
                             Kept kept, GradientObserver& observer)
    : decoder_(decoder),
      firstLayer_(firstLayer),
      endLayer_(endLayer),
      length_(static_cast<std::size_t>(length)),
      kept_(kept),
      observer_(observer),
      layers_(static_cast<std::size_t>(endLayer - firstLayer)) {}

void StageGradient::embed(GradientPass& pass) const {
    for (std::size_t s = 0; s < pass.ids.size() / length_; ++s) {
        pass.states.push_back(decoder_.emptyHidden(1, static_cast<std::int64_t>(length_)));
        decoder_.embed(idsOf(pass, s), pass.states.back());
    }
}

void StageGradient::forward(GradientPass& pass) {
    const at::AutoGradMode graphs(keepsGraphs());
    pass.inputs.resize(layers_.size());
    pass.outputs.resize(layers_.size());
    for (std::int64_t number = firstLayer_; number < endLayer_; ++number) {
        const LayerWeights weights = layer(number);
        const auto index = static_cast<std::size_t>(number - firstLayer_);
        for (at::Tensor& state : pass.states) {
            const at::Tensor& input = pass.inputs[index].emplace_back(state.set_requires_grad(true));
            const at::Tensor output = differentiableLayer(decoder_, number, weights, input);
            if (keepsGraphs()) pass.outputs[index].push_back(output);
            state = output.detach();
        }
        observer_.stop();
    }
}

void StageGradient::backwardThroughHead(GradientPass& pass, const LossGradient& lossGradient) {
    if (!head_.defined()) {
        finalNorm_ = decoder_.loadFinalNorm().set_requires_grad(true);
        head_ = decoder_.loadHead().set_requires_grad(true);
    }
    const NamedTensors parameters{{"model.norm.weight", finalNorm_}, {"lm_head.weight", head_}};
    for (std::size_t s = 0; s < pass.states.size(); ++s) {
        const at::Tensor input = pass.states[s].detach().set_requires_grad(true);
        const at::Tensor logits = differentiableHead(decoder_, finalNorm_, head_, input);
        const auto found = gradients(logits, lossGradient(logits.detach(), idsOf(pass, s)), parameters, input);
        observer_.observe(parameters[0].first, found[0]);
        if (decoder_.config().tieWordEmbeddings)
            pass.tiedHeads.push_back(found[1]);
        else
            observer_.observe(parameters[1].first, found[1]);
        pass.states[s] = found[2];
    }
    if (kept_ == Kept::Nothing) finalNorm_ = head_ = at::Tensor();
    observer_.stop();
}

void StageGradient::backward(GradientPass& pass) {
    for (std::int64_t number = endLayer_; number-- > firstLayer_;) {
        const LayerWeights weights = layer(number);
        const NamedTensors parameters = parametersOf(number, weights);
        const auto index = static_cast<std::size_t>(number - firstLayer_);
        for (std::size_t s = 0; s < pass.states.size(); ++s) {
            const at::Tensor input = std::exchange(pass.inputs[index][s], {});
            const at::Tensor output = keepsGraphs() ? std::exchange(pass.outputs[index][s], {})
                                                    : differentiableLayer(decoder_, number, weights, input);
            const auto found = gradients(output, pass.states[s], parameters, input);
            for (std::size_t p = 0; p < parameters.size(); ++p) observer_.observe(parameters[p].first, found[p]);
            pass.states[s] = found.back();
        }
        observer_.stop();
    }
}

void StageGradient::backwardThroughEmbedding(GradientPass& pass) {
    const std::string parameter = "model.embed_tokens.weight";
    for (std::size_t s = 0; s < pass.states.size(); ++s) {
        const std::span<const std::int32_t> ids = idsOf(pass, s);
        std::vector<std::int64_t> taken(ids.begin(), ids.end());
        std::ranges::sort(taken);
        taken.erase(std::unique(taken.begin(), taken.end()), taken.end());
        const at::Tensor rows = at::tensor(taken).to(decoder_.device());

        at::Tensor gradient;
        if (decoder_.config().tieWordEmbeddings) {
            at::Tensor& head = pass.tiedHeads[s];
            gradient = head.index_select(0, rows).to(at::kFloat).cpu();
            observer_.observe(parameter, head.index_fill_(0, rows, 0));
        } else {
            gradient = at::zeros({rows.size(0), decoder_.hiddenSize()}, at::kFloat);
        }
        // On the host, where index_add_ goes token by token, in order: the bits must not depend on threads.
        std::vector<std::int64_t> places;
        for (const std::int32_t id : ids) places.push_back(std::ranges::lower_bound(taken, id) - taken.begin());
        gradient.index_add_(0, at::tensor(places), pass.states[s].select(0, 0).cpu().to(at::kFloat),
                            decoder_.embeddingScale());
        observer_.observeRows(parameter, decoder_.config().vocabSize, rows, gradient.to(decoder_.device()));
    }
}

std::span<const std::int32_t> StageGradient::idsOf(const GradientPass& pass, std::size_t sequence) const {
    return pass.ids.subspan(sequence * length_, length_);
}

LayerWeights StageGradient::layer(std::int64_t number) {
    LayerWeights& kept = layers_[static_cast<std::size_t>(number - firstLayer_)];
    if (kept.inputNorm.defined()) return kept;
    LayerWeights weights = decoder_.loadLayer(number);
    for (const auto& [name, tensor] : parametersOf(number, weights)) tensor.set_requires_grad(true);
    if (kept_ != Kept::Nothing) kept = weights;
    return weights;
}

}  // namespace aimerge
