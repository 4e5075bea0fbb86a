#include "model/block.h"
#include "model/module_gradients.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

/// The rest of an activation function is beside it: its derivative.
at::Tensor& activate_(ActivationFunction function, at::Tensor& x) {
    switch (function) {
        case ActivationFunction::Silu:
            return at::silu_(x);
        case ActivationFunction::GeluTanh:
            return at::gelu_(x, "tanh");
        case ActivationFunction::Gelu:
            return at::gelu_(x, "none");
        case ActivationFunction::Relu:
            break;
    }
    return at::relu_(x);
}

at::Tensor activationGradient(ActivationFunction function, const at::Tensor& gradient, const at::Tensor& x) {
    switch (function) {
        case ActivationFunction::Silu:
            return at::silu_backward(gradient, x);
        case ActivationFunction::GeluTanh:
            return at::gelu_backward(gradient, x, "tanh");
        case ActivationFunction::Gelu:
            return at::gelu_backward(gradient, x, "none");
        case ActivationFunction::Relu:
            break;
    }
    return at::threshold_backward(gradient, x, 0);
}

class MlpBlock : public Block {
public:
    explicit MlpBlock(const MlpDescription& mlp) : mlp_(mlp), isFused_(mlp.isGated && mlp.projections.size() == 1) {}

    std::int64_t stops() const override { return 2; }
    at::Tensor inputAt(std::int64_t stop, const LayerState& state) const override {
        return stop == 0 ? state.at(mlp_.from) : state.input;
    }

    void forward(std::int64_t stop, BlockWeights weights, LayerState& state, Tensors* kept,
                 Tensors* outputs) const override {
        if (stop == 0) return enter(weights, state, kept, outputs);
        const ModuleWeights& down = weights.back();
        state.input = at::linear(state.input, outputsFirst(mlp_.output, down.weight), down.bias);
        if (outputs) *outputs = {state.input};
    }

    void backward(BlockWeights weights, const Tensors& kept, LayerGradient& gradient,
                  const ModuleGradients& modules) const override {
        const std::size_t down = mlp_.projections.size();
        if (!mlp_.isGated) {
            const at::Tensor inner = modules.linear(down, weights[down], activated(kept[kUp]), gradient.input);
            const at::Tensor byUp = activationGradient(mlp_.activation, inner, kept[kUp]);
            return gradient.add(mlp_.from, modules.linear(0, weights[0], kept[kEntering], byUp));
        }
        const at::Tensor active = activated(kept[kGate]);
        const at::Tensor inner = modules.linear(down, weights[down], active * kept[kUp], gradient.input);
        const at::Tensor byUp = inner * active, byActive = inner * kept[kUp];
        const at::Tensor byGate = activationGradient(mlp_.activation, byActive, kept[kGate]);
        at::Tensor entering;
        if (isFused_) {
            entering = modules.linear(0, weights[0], kept[kEntering], at::cat({byGate, byUp}, -1));
        } else {
            entering = modules.linear(0, weights[0], kept[kEntering], byGate);
            entering.add_(modules.linear(1, weights[1], kept[kEntering], byUp));
        }
        gradient.add(mlp_.from, entering);
    }

private:
    enum Slot { kEntering, kUp, kGate, kKeptTensors };  // of what is kept

    /// Of gate (0) or up (1): a part of the matrix where both are in one.
    at::Tensor project(BlockWeights weights, std::size_t number, const at::Tensor& x) const {
        if (!isFused_)
            return at::linear(x, outputsFirst(mlp_.projections[number], weights[number].weight), weights[number].bias);
        const ModuleWeights& both = weights.front();
        const auto part = [&](const at::Tensor& of) {
            return of.defined() ? of.narrow(0, static_cast<std::int64_t>(number) * mlp_.inner, mlp_.inner) : of;
        };
        return at::linear(x, part(both.weight), part(both.bias));
    }

    void enter(BlockWeights weights, LayerState& state, Tensors* kept, Tensors* outputs) const {
        const at::Tensor entering = state.at(mlp_.from);
        at::Tensor inner = project(weights, 0, entering);
        const at::Tensor first = inner;
        if (kept || outputs) inner = inner.clone();
        activate_(mlp_.activation, inner);
        if (!mlp_.isGated) {
            if (kept) *kept = {entering, first};
            if (outputs) *outputs = {first};
            state.input = inner;
            return;
        }
        const at::Tensor up = project(weights, 1, entering);
        if (kept) {
            kept->resize(kKeptTensors);
            (*kept)[kEntering] = entering, (*kept)[kUp] = up, (*kept)[kGate] = first;
        }
        if (outputs) *outputs = isFused_ ? Tensors{at::cat({first, up}, -1)} : Tensors{first, up};
        state.input = inner.mul_(up);
    }

    at::Tensor activated(const at::Tensor& x) const {
        at::Tensor result = x.clone();
        return activate_(mlp_.activation, result);
    }

    MlpDescription mlp_;
    bool isFused_;
};

}  // namespace

std::unique_ptr<Block> makeBlock(const MlpDescription& mlp) {
    return std::make_unique<MlpBlock>(mlp);
}

}  // namespace aimerge
