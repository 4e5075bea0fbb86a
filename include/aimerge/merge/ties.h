#pragma once
// TIES-Merging. Yadav et al. 2023, "TIES-Merging: resolving interference when merging models", arXiv 2306.01708, in its
// words:
//
//   Trim:   of each task vector d_i = theta_i - theta_base "keep the top-k% values based on their magnitude, reset the rest
//   to
//           zero": the k = max(1, floor(density N)) largest |d_i|, of equal ones those at the lower index.
//   Elect:  "the sign with the highest total magnitude across the models": e = sign of sum_i u_i, u_i = w_i d_i; zero elects
//   +. Merge:  "only keeping the parameter values from the models whose signs are the same as the elected sign":
//           m = sum u_i over those, with normalize divided by the sum of their w_i;  theta = theta_base + lambda m.
//
// rescale: when density < 1 the kept values of a task vector are multiplied by sum |d| / sum |kept d| (mergekit).

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

#include <cstdint>

namespace aimerge {

template <int kInputs, Normalize kNormalize>
struct TiesCombine {
    static constexpr bool kTakesBase = true;
    PerInput<float, kInputs> weight;
    PerInput<float, kInputs> rescale;            // 1 when there is none
    PerInput<std::uint32_t, kInputs> leastKept;  // bits of the least |d_i| that is kept
    float lambda;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float total = 0;
        for (int i = 0; i < theta.count(); ++i) total += weighted(i, base, theta);
        const std::uint32_t flip = selectBits(total >= 0, 0u, 0x80000000u);  // makes agreeing values positive

        float sum = 0, weights = 0;
        for (int i = 0; i < theta.count(); ++i) {
            const std::uint32_t value = bitsOfFloat(weighted(i, base, theta));
            const bool agrees = floatOfBits(value ^ flip) > 0;
            sum += floatOfBits(selectBits(agrees, value, 0u));
            weights += floatOfBits(selectBits(agrees, bitsOfFloat(weight[i]), 0u));
        }
        const float divisor = floatOfBits(selectBits(weights == 0, bitsOfFloat(1.0f), bitsOfFloat(weights)));
        return addDelta(base, lambda * (kNormalize == Normalize::Yes ? sum / divisor : sum));
    }

private:
    AIMERGE_KERNEL float weighted(int i, float base, const InputsAt<kInputs>& theta) const {
        const std::uint32_t delta = bitsOfFloat(theta[i] - base);
        const float kept = floatOfBits(selectBits((delta & 0x7FFFFFFFu) >= leastKept[i], delta, 0u));
        return weight[i] * (rescale[i] * kept);
    }
};

const Method& tiesMethod();

}  // namespace aimerge
