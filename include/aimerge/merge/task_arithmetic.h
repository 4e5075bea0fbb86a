#pragma once
// Task arithmetic. Ilharco et al. 2023, "Editing models with task arithmetic", arXiv 2212.04089: task vectors are "built by
// subtracting the weights of a pre-trained model from the weights of the same model after fine-tuning" and added to it.
//
//     theta = theta_base + lambda sum_i w_i (theta_i - theta_base)
//
// With normalize the sum is divided by sum w_i (by 1 when that is below 1e-8 in magnitude).

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

template <int kInputs, Normalize kNormalize>
struct TaskArithmeticCombine {
    static constexpr bool kTakesBase = true;
    PerInput<float, kInputs> weight;
    float divisor;  // sum w_i
    float lambda;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float sum = 0;
        for (int i = 0; i < theta.count(); ++i) sum += weight[i] * (theta[i] - base);
        return addDelta(base, lambda * (kNormalize == Normalize::Yes ? sum / divisor : sum));
    }
};

const Method& taskArithmeticMethod();

}  // namespace aimerge
