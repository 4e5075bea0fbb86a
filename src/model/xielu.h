#pragma once
// The activation function xIELU (ActivationFunction::Xielu), with learnt numbers.

#include "model/block.h"

namespace aimerge {

class Xielu {
public:
    /// @param numbers alpha_p, alpha_n, beta and eps, as MlpDescription::numbers
    explicit Xielu(BlockWeights numbers);

    /// x becomes f(x), computed in float32 and rounded once.
    void apply(at::Tensor& x) const;
    /// With respect to x, in its dtype.
    at::Tensor inputGradient(const at::Tensor& gradient, const at::Tensor& x) const;

    /// With respect to alpha_p and alpha_n, float32 [1].
    struct NumberGradients {
        at::Tensor alphaP, alphaN;
    };
    NumberGradients numberGradients(const at::Tensor& gradient, const at::Tensor& x) const;

private:
    at::Tensor alphaP_, alphaN_, beta_, eps_;  // float32; as learnt
    at::Tensor positive_, negative_;           // softplus(alpha_p), beta + softplus(alpha_n)
};

}  // namespace aimerge
