#pragma once
// The two ways in which task vectors are added up, whatever was trimmed of them. u_i = w_i trim(d_i):
//
//     sum         m = sum u_i, with normalize divided by sum w_i
//     consensus   e = sign of sum u_i, zero elects +;  m = sum of the u_i with sign e, with normalize divided by the sum of
//                 their w_i (by 1 when that is 0)
//     theta = theta_base + lambda m
//
// Zeros never have the elected sign, so what was trimmed neither votes nor counts. Ilharco et al. 2023, arXiv 2212.04089
// (sum); Yadav et al. 2023, arXiv 2306.01708 (consensus).

#include "merge/combine/trim.h"

namespace aimerge {

template <template <int> class Trim, int kInputs, Normalize kNormalize>
struct SumCombine {
    static constexpr bool kTakesBase = true;
    Trim<kInputs> trim;
    PerInput<float, kInputs> weight;
    float divisor;  // sum w_i
    float lambda;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float sum = 0;
        for (int i = 0; i < theta.count(); ++i) sum += weight[i] * trim(i, theta[i] - base, theta);
        return addDelta(base, lambda * (kNormalize == Normalize::Yes ? sum / divisor : sum));
    }
};

template <template <int> class Trim, int kInputs, Normalize kNormalize>
struct ConsensusCombine {
    static constexpr bool kTakesBase = true;
    Trim<kInputs> trim;
    PerInput<float, kInputs> weight;
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
        return weight[i] * trim(i, theta[i] - base, theta);
    }
};

}  // namespace aimerge
