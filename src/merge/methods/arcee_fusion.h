#pragma once
// Arcee Fusion, as mergekit has it (Goddard et al. 2024, arXiv 2403.13257): takes over the elements whose change matters
// most. With b = theta_base, x = theta_1 and softmax along the last axis:
//
//     P = softmax(x) + 1e-8,  Q = softmax(b) + 1e-8,  kappa of a row = sum P ln(P / Q),  I = |x - b| kappa
//     theta = x where I >= h, else b;     h = q50 + 1.5 (q75 - q25)
//
// q_z: the element of I at place floor(z (N - 1)) in ascending order over the tensor, the product in float32; exact for any
// size, where mergekit samples beyond a million elements.
//
// kappa is summed, in float64, as P ln(P / Q) - (P - Q): P and Q have the same sum, and no term of this is negative. Of rows
// whose weights lie within 2 of each other and change by at most 1/32, terms are float32, by formulas without cancellation;
// of others float64. As mergekit computes it, kappa of a small change is rounding noise.

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// I of one element. float32.
AIMERGE_KERNEL float importanceOfChange(float base, float other, float divergence) {
    return floatOfBits(bitsOfFloat(other - base) & 0x7FFFFFFFu) * divergence;
}

/// One input.
struct ArceeFusionCombine {
    static constexpr bool kTakesBase = true;
    float divergence;  // kappa of the row
    float threshold;   // h

    AIMERGE_KERNEL float operator()(float base, const InputsAt<1>& theta) const {
        const bool isTaken = importanceOfChange(base, theta[0], divergence) >= threshold;
        return floatOfBits(selectBits(isTaken, bitsOfFloat(theta[0]), bitsOfFloat(base)));
    }
};

const Method& arceeFusionMethod();

}  // namespace aimerge
