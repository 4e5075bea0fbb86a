#pragma once
// Fisher: the mean of all models in which every element counts by its Fisher information. Matena & Raffel 2022, "Merging
// models with Fisher-weighted averaging", arXiv 2111.09832, Eq. 3:
//
//     theta = sum_i w_i F_i theta_i / sum_i w_i F_i
//
// where sum w_i F_i is above epsilon; elsewhere, where no model's loss depends on the element, theta = sum w_i theta_i / sum
// w_i. Both are computed as a correction of the first model, theta_1 + sum_i c_i (theta_i - theta_1), so that equal models
// give exactly themselves. The base is no input: the paper averages fine-tuned models.

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// Inputs are the models' values, and behind them, in the same order, their Fisher values.
template <int kModels>
struct FisherCombine {
    static constexpr bool kTakesBase = false;
    PerInput<float, kModels> weight;
    PerInput<float, kModels> share;  // w_i / sum w
    float epsilon;

    AIMERGE_KERNEL float operator()(float /*base*/, const InputsAt<2 * kModels>& x) const {
        const int models = x.count() / 2;
        float information = weight[0] * x[models], weighted = 0, plain = 0;
        for (int i = 1; i < models; ++i) {
            const float importance = weight[i] * x[models + i], difference = x[i] - x[0];
            information += importance;
            weighted += importance * difference;
            plain += share[i] * difference;
        }
        const bool isKnown = information > epsilon;
        return addDelta(x[0], floatOfBits(selectBits(isKnown, bitsOfFloat(weighted / information), bitsOfFloat(plain))));
    }
};

const Method& fisherMethod();

}  // namespace aimerge
