#include "model/block.h"
#include "model/module_gradients.h"
#include "model/xielu.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

/// The rest of an activation function is beside it: its derivative.
void activate(ActivationFunction function, BlockWeights numbers, at::Tensor& x) {
    switch (function) {
        case ActivationFunction::Silu:
            at::silu_(x);
            return;
        case ActivationFunction::GeluTanh:
            at::gelu_(x, "tanh");
            return;
        case ActivationFunction::Gelu:
            at::gelu_(x, "none");
            return;
        case ActivationFunction::Relu:
            at::relu_(x);
            return;
        case ActivationFunction::SquaredRelu:
            at::relu_(x).square_();
            return;
        case ActivationFunction::Xielu:
            Xielu(numbers).apply(x);
    }
}

at::Tensor activationGradient(ActivationFunction function, BlockWeights numbers, const at::Tensor& gradient,
                              const at::Tensor& x) {
    switch (function) {
        case ActivationFunction::Silu:
            return at::silu_backward(gradient, x);
        case ActivationFunction::GeluTanh:
            return at::gelu_backward(gradient, x, "tanh");
        case ActivationFunction::Gelu:
            return at::gelu_backward(gradient, x, "none");
        case ActivationFunction::Relu:
            break;
        case ActivationFunction::SquaredRelu:
            return at::relu(x).mul_(2).mul_(gradient);
        case ActivationFunction::Xielu:
            return Xielu(numbers).inputGradient(gradient, x);
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
        const ModuleWeights& down = weights[mlp_.projections.size()];
        state.input = at::linear(state.input, outputsFirst(mlp_.output, down.weight), down.bias);
        if (outputs) *outputs = {state.input};
    }

    void backward(BlockWeights weights, const Tensors& kept, LayerGradient& gradient,
                  const ModuleGradients& modules) const override {
        const std::size_t down = mlp_.projections.size();
        if (!mlp_.isGated) {
            const at::Tensor inner = modules.linear(down, weights[down], activated(weights, kept[kUp]), gradient.input);
            observeNumbers(weights, inner, kept[kUp], modules);
            const at::Tensor byUp = activationGradient(mlp_.activation, numbersOf(weights), inner, kept[kUp]);
            return gradient.add(mlp_.from, modules.linear(0, weights[0], kept[kEntering], byUp));
        }
        const at::Tensor active = activated(weights, kept[kGate]);
        const at::Tensor inner = modules.linear(down, weights[down], active * kept[kUp], gradient.input);
        const at::Tensor byUp = inner * active, byActive = inner * kept[kUp];
        observeNumbers(weights, byActive, kept[kGate], modules);
        const at::Tensor byGate = activationGradient(mlp_.activation, numbersOf(weights), byActive, kept[kGate]);
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

    /// For gate (0) or up (1): a part of the matrix where both are in one.
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
        activate(mlp_.activation, numbersOf(weights), inner);
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

    BlockWeights numbersOf(BlockWeights weights) const { return weights.last(mlp_.numbers.size()); }

    at::Tensor activated(BlockWeights weights, const at::Tensor& x) const {
        at::Tensor result = x.clone();
        activate(mlp_.activation, numbersOf(weights), result);
        return result;
    }

    /// @param gradient with respect to what the activation function gave for x
    void observeNumbers(BlockWeights weights, const at::Tensor& gradient, const at::Tensor& x,
                        const ModuleGradients& modules) const {
        if (mlp_.numbers.empty() || !modules.isObserved()) return;
        const Xielu::NumberGradients by = Xielu(numbersOf(weights)).numberGradients(gradient, x);
        const std::size_t first = weights.size() - mlp_.numbers.size();
        modules.observeNumber(first, weights[first], by.alphaP);
        modules.observeNumber(first + 1, weights[first + 1], by.alphaN);
    }

    MlpDescription mlp_;
    bool isFused_;
};

}  // namespace

std::unique_ptr<Block> makeBlock(const MlpDescription& mlp) {
    return std::make_unique<MlpBlock>(mlp);
}

}  // namespace aimerge
