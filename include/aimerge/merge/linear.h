#pragma once
// Linear: the weighted mean of all inputs. Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models
// improves accuracy without increasing inference time", arXiv 2203.05482: "averaging the weights of multiple models".
//
//     theta = sum_i w_i theta_i / sum_i w_i          (without the division when normalize is false)
//
// The base is an ordinary input. Sums run in float64 and are rounded once, so that equal inputs average to exactly themselves.

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

template <int kInputs>
struct LinearCombine {
    static constexpr bool kTakesBase = false;
    PerInput<double, kInputs> share;  // w_i, or w_i / sum w when normalized

    AIMERGE_KERNEL float operator()(float /*base*/, const InputsAt<kInputs>& theta) const {
        double sum = 0;
        for (int i = 0; i < theta.count(); ++i) sum += share[i] * static_cast<double>(theta[i]);
        return static_cast<float>(sum);
    }
};

const Method& linearMethod();

}  // namespace aimerge
