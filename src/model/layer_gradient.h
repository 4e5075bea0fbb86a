#pragma once
// The backward pass through a layer, written out: from what a LayerTrace keeps of the forward pass, to the gradients
// of sum(output * gradient). Those with respect to parameters go to an observer.

#include "aimerge/model/decoder.h"
#include "aimerge/model/gradient.h"

#include <ATen/core/Tensor.h>

namespace aimerge {

/// @param gradient with respect to the layer's output; so is the result with respect to its input: [1, length, hidden]
at::Tensor layerGradient(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights, const LayerTrace& trace,
                         const at::Tensor& gradient, GradientObserver* observer);

/// The gradient of a norm over the last dimension of `x`. @return with respect to x
at::Tensor normGradient(const Decoder& decoder, const std::string& module, const at::Tensor& weight, const at::Tensor& x,
                        const at::Tensor& gradient, GradientObserver* observer);

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

/// With respect to the module's input, [.., in].
at::Tensor inputGradient(const at::Tensor& weight, const at::Tensor& gradient);

}  // namespace aimerge
