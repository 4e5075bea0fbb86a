#pragma once
// Linear: the weighted mean of all inputs. Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned
// models improves accuracy without increasing inference time", arXiv 2203.05482: "averaging the weights of multiple models".
//
//     theta = sum_i w_i theta_i / sum_i w_i          (without the division when normalize is false)
//
// The base is an ordinary input. Products are added unrounded (fused), as the reference does: rounding to bf16 shows it.
// With normalize, inputs that are all equal give exactly that value, which a float32 sum alone would miss by a rounding.

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

#include <cmath>

namespace aimerge {

template <int kInputs, Normalize kNormalize>
struct LinearCombine {
    static constexpr bool kTakesBase = false;
    PerInput<float, kInputs> weight;
    float divisor;  // sum w_i

    AIMERGE_KERNEL float operator()(float /*base*/, const InputsAt<kInputs>& theta) const {
        float sum = 0;
        for (int i = 0; i < theta.count(); ++i) sum = std::fma(weight[i], theta[i], sum);
        if constexpr (kNormalize == Normalize::No) return sum;

        std::uint32_t difference = 0;
        for (int i = 1; i < theta.count(); ++i) difference |= bitsOfFloat(theta[i]) ^ bitsOfFloat(theta[0]);
        return floatOfBits(selectBits(difference == 0, bitsOfFloat(theta[0]), bitsOfFloat(sum / divisor)));
    }
};

const Method& linearMethod();

}  // namespace aimerge
