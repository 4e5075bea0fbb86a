#pragma once
// SCE. Wan et al. 2024, "FuseChat: knowledge fusion of chat models", arXiv 2408.07990, section 3.3, with
// d_i = theta_i - theta_base:
//
//   Select:    of each tensor the floor(select_topk nz) elements whose variance over the inputs is largest stay, nz of them
//              having one at all; the d_i of the others become zero. Of equal variances those at the lower index stay.
//   Calculate: W_i = mean of d_i^2 over the tensor, divided by their sum; 1 / inputs where that is below 1e-6, which it is
//              for most fine-tuned models.
//   Erase:     per element e = sign of sum_i d_i, zero elects +; K: the inputs whose d_i has that sign;
//              theta = theta_base + sum_K W_i d_i / max(sum_K W_i, 1e-6).

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

#include <cstdint>

namespace aimerge {

/// Population variance of the changes of one element: float64, rounded once. Seen from the first change, so that equal ones
/// have none; what that cancels is at most the number of inputs times as large as the variance.
template <int kInputs>
AIMERGE_KERNEL float varianceOfChanges(float base, const InputsAt<kInputs>& theta) {
    const double share = 1.0 / theta.count(), first = static_cast<double>(theta[0] - base);
    double sum = 0, squares = 0;
    for (int i = 1; i < theta.count(); ++i) {
        const double distance = static_cast<double>(theta[i] - base) - first;
        sum += distance;
        squares += distance * distance;
    }
    const double mean = sum * share;
    return static_cast<float>(squares * share - mean * mean);
}

/// Whether elements are selected by variance. A template parameter: without selection no variance is computed.
enum class Selected : bool { All, ByVariance };

template <int kInputs, Selected kSelected>
struct SceCombine {
    static constexpr bool kTakesBase = true;
    PerInput<float, kInputs> weight;  // W_i
    std::uint32_t leastKept;          // bits of the least variance that stays

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float total = 0;
        for (int i = 0; i < theta.count(); ++i) total += theta[i] - base;
        const std::uint32_t flip = selectBits(total >= 0, 0u, 0x80000000u);  // makes agreeing changes positive

        float sum = 0, weights = 0;
        for (int i = 0; i < theta.count(); ++i) {
            const float delta = theta[i] - base;
            const bool agrees = floatOfBits(bitsOfFloat(delta) ^ flip) > 0;
            sum += floatOfBits(selectBits(agrees, bitsOfFloat(weight[i] * delta), 0u));
            weights += floatOfBits(selectBits(agrees, bitsOfFloat(weight[i]), 0u));
        }
        const float least = 1e-6f;
        const float divisor = floatOfBits(selectBits(weights < least, bitsOfFloat(least), bitsOfFloat(weights)));
        const float change = sum / divisor;
        if constexpr (kSelected == Selected::All) return addDelta(base, change);
        const bool stays = bitsOfFloat(varianceOfChanges(base, theta)) >= leastKept;
        return addDelta(base, floatOfBits(selectBits(stays, bitsOfFloat(change), 0u)));
    }
};

const Method& sceMethod();

}  // namespace aimerge
