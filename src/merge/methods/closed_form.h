#pragma once
// Merges of linear layers in closed form: the W that is nearest to all experts W_i, where nearness of expert i is measured
// by a symmetric positive semi-definite C_i [in, in],
//
//     minimise  sum_i tr (W - W_i) C_i (W - W_i)^T    =>    W = (sum_i W_i C_i) (sum_i C_i)^-1
//
//     regmean  C_i = w_i G_i,  G_i the Gram matrix of the expert's layer inputs, its off-diagonal elements times alpha. Jin
//              et al. 2023, "Dataless knowledge fusion by merging weights of language models", arXiv 2212.09849.
//     actmat   C_i = w_i D_i^T D_i,  D_i = W_i - W_base: the change tells the inputs' covariance. Hameed et al. 2026, "Model
//              merging via data-free covariance estimation", arXiv 2604.01329.
//     wudi     C_i = w_i D_i^T D_i / ||D_i||_F^2: the exact minimum of what WUDI-merging descends on, sum_i ||(D - D_i)
//              D_i^T||^2 / ||D_i||^2. Cheng et al. 2025, "Whoever started the interference should end it", arXiv 2503.08099.
//
// Each C_i is first shrunk towards the identity, C_i + r w_i / sum w I, with r = ridge times the mean diagonal element of
// sum C_i. That makes the sum positive definite, and directions that no expert cares for get the weighted mean. It is
// computed as a correction of the first expert,
//
//     W = W_1 + X,   X = (sum_{i>1} (W_i - W_1) C_i) (sum_i C_i)^-1,   theta = W_base + lambda (W - W_base),
//
// so that rounding is relative to the experts' differences, and equal experts give exactly themselves.
//
// Parameters that are no linear layer, or have no Gram matrix, get the mean weighted by w_i.

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// Whether the change from a base is scaled by lambda. A template parameter of combines.
enum class Scaled : bool { No, Yes };

/// The first expert moved by `correction`, and its whole change from the base scaled by lambda.
template <Scaled kScaled>
AIMERGE_KERNEL float correctedExpert(float base, float expert, float correction, float lambda) {
    if constexpr (kScaled == Scaled::No) return addDelta(expert, correction);
    return addDelta(expert, lambda * correction + (lambda - 1) * (expert - base));
}

/// Two inputs: the first expert, and the correction X.
template <Scaled kScaled>
struct ClosedFormCombine {
    static constexpr bool kTakesBase = kScaled == Scaled::Yes;
    float lambda;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<2>& x) const {
        return correctedExpert<kScaled>(base, x[0], x[1], lambda);
    }
};

/// As above, with the correction that leads to the weighted mean.
template <int kInputs, Scaled kScaled>
struct ExpertMeanCombine {
    static constexpr bool kTakesBase = kScaled == Scaled::Yes;
    PerInput<float, kInputs> share;  // w_i / sum w
    float lambda;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float correction = 0;
        for (int i = 1; i < theta.count(); ++i) correction += share[i] * (theta[i] - theta[0]);
        return correctedExpert<kScaled>(base, theta[0], correction, lambda);
    }
};

const Method& regMeanMethod();
const Method& actMatMethod();
const Method& wudiMethod();

}  // namespace aimerge
