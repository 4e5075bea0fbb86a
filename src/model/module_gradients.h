#pragma once
// Gradients with respect to the parameters of modules, handed to an observer, and with respect to what enters them.

#include "aimerge/model/gradient.h"

#include <ATen/core/Tensor.h>

#include <functional>
#include <span>
#include <string>

namespace aimerge {

/// With respect to rows of a weight [out, in], from its module's input [.., in] and the gradient with respect to its output
/// [.., out]: on a processor, of so few rows at a time that they stay in its cache until they are added up.
class WeightGradient {
public:
    WeightGradient(const at::Tensor& input, const at::Tensor& gradient);

    std::int64_t rows() const { return gradient_.size(1); }
    std::int64_t rowsAtOnce() const { return rowsAtOnce_; }
    /// [count, in]
    at::Tensor ofRows(std::int64_t first, std::int64_t count) const;

private:
    at::Tensor input_, gradient_;  // [tokens, in], [tokens, out]
    std::int64_t rowsAtOnce_;
};

/// With respect to a module's input, [.., in]. @param weight [out, in]
at::Tensor inputGradient(const at::Tensor& weight, const at::Tensor& gradient);

/// For the modules of one block. Without an observer, gradients with respect to parameters are not computed.
class ModuleGradients {
public:
    using NameOf = std::function<std::string(std::size_t module)>;

    ModuleGradients(std::span<const ModuleDescription> modules, NameOf nameOf, GradientObserver* observer)
        : modules_(modules), nameOf_(std::move(nameOf)), observer_(observer) {}

    /// @param input of a linear layer @param gradient with respect to its output @return with respect to its input
    at::Tensor linear(std::size_t number, const ModuleWeights& weights, const at::Tensor& input,
                      const at::Tensor& gradient) const;
    /// For a single number.
    void observeNumber(std::size_t number, const ModuleWeights& weights, const at::Tensor& gradient) const;
    bool isObserved() const { return observer_ != nullptr; }
    /// For a norm; `byBias` only where it has a bias.
    void observe(std::size_t number, const ModuleWeights& weights, const at::Tensor& byWeight,
                 const at::Tensor& byBias) const;

private:
    std::span<const ModuleDescription> modules_;
    NameOf nameOf_;
    GradientObserver* observer_;
};

/// The weight of a linear layer as [out, in], whichever way it is stored.
inline at::Tensor outputsFirst(const ModuleDescription& module, const at::Tensor& weight) {
    return module.isInputMajor ? weight.t() : weight;
}

}  // namespace aimerge
