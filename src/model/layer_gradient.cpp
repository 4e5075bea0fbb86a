#include "model/layer_gradient.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/model/products.h"
#include "model/attention.h"
#include "model/row_kernels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

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

/// @return with respect to x and to the factor, float32
std::pair<at::Tensor, at::Tensor> normGradients(const at::Tensor& x, const at::Tensor& factor, const at::Tensor& gradient,
                                                double eps) {
    if (!x.is_cpu()) {
        const at::Tensor wide = x.to(at::kFloat), by = gradient.to(at::kFloat);
        const at::Tensor scale = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + eps);
        const at::Tensor normal = wide * scale, byNormal = by * factor;
        const at::Tensor along = (byNormal * normal).mean(-1, /*keepdim=*/true);
        return {((byNormal - normal * along) * scale).to(x.scalar_type()), (by * normal).sum(0)};
    }
    constexpr std::int64_t kRowsPerSum = 32;  // parts of the sum over rows, which no number of threads changes
    at::Tensor result = at::empty_like(x);
    at::Tensor sums = at::empty({(x.size(0) + kRowsPerSum - 1) / kRowsPerSum, x.size(1)}, factor.options());
    if (x.scalar_type() == at::kFloat)
        normGradientOfRows<float>(x, factor, gradient, result, sums, kRowsPerSum, eps);
    else
        normGradientOfRows<kernels::Bf16>(x, factor, gradient, result, sums, kRowsPerSum, eps);
    return {result, sums.sum(0)};
}

/// One layer.
class WayBack {
public:
    WayBack(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights, const LayerTrace& trace,
            GradientObserver* observer)
        : decoder_(decoder), layer_(layer), weights_(weights), trace_(trace), observer_(observer) {}

    at::Tensor through(const at::Tensor& gradient) const {
        const bool hasFourNorms = decoder_.family().normalisesOutputs;
        at::Tensor fed = gradient;
        if (hasFourNorms) fed = norm("post_feedforward_layernorm", weights_.postFeedforwardNorm, trace_.fed, fed);
        fed = feedForward(fed);
        at::Tensor between = hasFourNorms
                                 ? norm("pre_feedforward_layernorm", weights_.preFeedforwardNorm, trace_.between, fed)
                                 : norm("post_attention_layernorm", weights_.postAttentionNorm, trace_.between, fed);
        between.add_(gradient);

        at::Tensor attended = between;
        if (hasFourNorms) attended = norm("post_attention_layernorm", weights_.postAttentionNorm, trace_.attended, attended);
        return norm("input_layernorm", weights_.inputNorm, trace_.input, attend(attended)).add_(between);
    }

private:
    std::string moduleName(const char* module) const { return fmt::format("model.layers.{}.{}", layer_, module); }

    at::Tensor norm(const char* module, const at::Tensor& weight, const at::Tensor& x, const at::Tensor& gradient) const {
        return normGradient(decoder_, moduleName(module), weight, x, gradient, observer_);
    }

    /// One of the products of one input.
    struct Product {
        const char* module;
        const LinearWeights& weights;
        const at::Tensor& gradient;
    };

    at::Tensor linear(const Product& product, const at::Tensor& input) const {
        if (observer_) observe(product, input);
        return inputGradient(product.weights.weight, product.gradient);
    }

    void observe(const Product& product, const at::Tensor& input) const {
        const std::string name = moduleName(product.module);
        const WeightGradient parts(input, product.gradient);
        for (std::int64_t first = 0; first < parts.rows(); first += parts.rowsAtOnce()) {
            const std::int64_t count = std::min(parts.rowsAtOnce(), parts.rows() - first);
            observer_->observe(name + ".weight", product.weights.weight.sizes(), first, parts.ofRows(first, count));
        }
        if (product.weights.bias.defined())
            observer_->observe(name + ".bias", {parts.rows()}, 0, product.gradient.flatten(0, -2).to(at::kFloat).sum(0));
    }

    /// The gradient through several products, or through the one that the family has for them.
    at::Tensor linear(std::initializer_list<Product> products, const char* fusedModule, const LinearWeights& fused,
                      const at::Tensor& input) const {
        std::vector<at::Tensor> gradients;
        if (decoder_.family().fusesProjections) {
            for (const Product& product : products) gradients.push_back(product.gradient);
            return linear({fusedModule, fused, at::cat(gradients, -1)}, input);
        }
        at::Tensor sum;
        for (const Product& product : products) {
            const at::Tensor part = linear(product, input);
            sum = sum.defined() ? sum.add_(part) : part;
        }
        return sum;
    }

    at::Tensor attend(const at::Tensor& gradient) const {
        const ModelConfig& config = decoder_.config();
        const at::Tensor mixed = linear({"self_attn.o_proj", weights_.output, gradient}, trace_.mixed);
        AttentionGradient by = attentionGradient(config, layer_, trace_.query, trace_.key, trace_.value, mixed);
        decoder_.rotateBack(by.query, config.heads);
        decoder_.rotateBack(by.key, config.keyValueHeads);
        if (decoder_.family().normalisesHeads) {
            by.query = heads("self_attn.q_norm", weights_.queryNorm, trace_.plainQuery, by.query);
            by.key = heads("self_attn.k_norm", weights_.keyNorm, trace_.plainKey, by.key);
        }
        return linear({{"self_attn.q_proj", weights_.query, by.query},
                       {"self_attn.k_proj", weights_.key, by.key},
                       {"self_attn.v_proj", weights_.value, by.value}},
                      "self_attn.qkv_proj", weights_.attentionInput, trace_.attentionInput);
    }

    /// A norm of each head by itself.
    at::Tensor heads(const char* module, const at::Tensor& weight, const at::Tensor& x, const at::Tensor& gradient) const {
        const std::int64_t channels = decoder_.config().headDim;
        return norm(module, weight, x.view({-1, channels}), gradient.view({-1, channels})).view(x.sizes());
    }

    at::Tensor feedForward(const at::Tensor& gradient) const {
        const bool isSilu = decoder_.config().activation == "silu";
        const at::Tensor& gate = trace_.gate;
        const at::Tensor active = isSilu ? at::silu(gate) : at::gelu(gate, "tanh");
        const at::Tensor inner = linear({"mlp.down_proj", weights_.down, gradient}, active * trace_.up);
        const at::Tensor byUp = inner * active, byActive = inner * trace_.up;
        const at::Tensor byGate = isSilu ? at::silu_backward(byActive, gate) : at::gelu_backward(byActive, gate, "tanh");
        return linear({{"mlp.gate_proj", weights_.gate, byGate}, {"mlp.up_proj", weights_.up, byUp}}, "mlp.gate_up_proj",
                      weights_.mlpInput, trace_.mlpInput);
    }

    const Decoder& decoder_;
    std::int64_t layer_;
    const LayerWeights& weights_;
    const LayerTrace& trace_;
    GradientObserver* observer_;
};

}  // namespace

WeightGradient::WeightGradient(const at::Tensor& input, const at::Tensor& gradient)
    : input_(input.flatten(0, -2)), gradient_(gradient.flatten(0, -2)) {
    constexpr std::int64_t kElementsAtOnce = 1 << 18, kFewestRows = 64;
    rowsAtOnce_ = input.is_cpu() ? std::max(kFewestRows, kElementsAtOnce / input_.size(1)) : rows();
    if (isForOneDnn(input_)) input_ = input_.to_mkldnn();
}

at::Tensor WeightGradient::ofRows(std::int64_t first, std::int64_t count) const {
    return transposedProduct(gradient_.narrow(1, first, count), input_);
}

at::Tensor inputGradient(const at::Tensor& weight, const at::Tensor& gradient) {
    if (!isForOneDnn(gradient)) return at::matmul(gradient, weight);
    std::vector<std::int64_t> sizes = gradient.sizes().vec();
    sizes.back() = weight.size(1);
    return at::mkldnn_linear_backward_input(sizes, gradient.to_mkldnn(), weight).to_dense();
}

at::Tensor normGradient(const Decoder& decoder, const std::string& module, const at::Tensor& weight, const at::Tensor& x,
                        const at::Tensor& gradient, GradientObserver* observer) {
    at::Tensor factor = weight.to(at::kFloat);
    if (decoder.family().shiftsNorms) factor = factor + 1;
    const auto [byX, byFactor] =
        normGradients(x.flatten(0, -2), factor, gradient.flatten(0, -2).contiguous(), decoder.config().rmsNormEps);
    if (observer) observer->observe(module + ".weight", weight.sizes(), 0, byFactor);
    return byX.view(x.sizes());
}

at::Tensor layerGradient(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights, const LayerTrace& trace,
                         const at::Tensor& gradient, GradientObserver* observer) {
    return WayBack(decoder, layer, weights, trace, observer).through(gradient);
}

}  // namespace aimerge
