#include "model/module_gradients.h"

#include "aimerge/model/products.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace aimerge {

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
    return at::mkldnn_linear_backward_input(sizes, gradient.to_mkldnn(), weight.contiguous()).to_dense();
}

at::Tensor ModuleGradients::linear(std::size_t number, const ModuleWeights& weights, const at::Tensor& input,
                                   const at::Tensor& gradient) const {
    const ModuleDescription& module = modules_[number];
    if (observer_) {
        const std::string name = nameOf_(number);
        const WeightGradient parts = module.isInputMajor ? WeightGradient(gradient, input) : WeightGradient(input, gradient);
        for (std::int64_t first = 0; first < parts.rows(); first += parts.rowsAtOnce()) {
            const std::int64_t count = std::min(parts.rowsAtOnce(), parts.rows() - first);
            observer_->observe(name + ".weight", weights.weight.sizes(), first, parts.ofRows(first, count));
        }
        if (weights.bias.defined())
            observer_->observe(name + ".bias", weights.bias.sizes(), 0, gradient.flatten(0, -2).to(at::kFloat).sum(0));
    }
    return inputGradient(outputsFirst(module, weights.weight), gradient);
}

void ModuleGradients::observeNumber(std::size_t number, const ModuleWeights& weights, const at::Tensor& gradient) const {
    if (observer_) observer_->observe(nameOf_(number), weights.weight.sizes(), 0, gradient);
}

void ModuleGradients::observe(std::size_t number, const ModuleWeights& weights, const at::Tensor& byWeight,
                              const at::Tensor& byBias) const {
    if (!observer_) return;
    const std::string name = nameOf_(number);
    observer_->observe(name + ".weight", weights.weight.sizes(), 0, byWeight);
    if (weights.bias.defined()) observer_->observe(name + ".bias", weights.bias.sizes(), 0, byBias);
}

}  // namespace aimerge
