#pragma once
// Reinforced Agent Merging. "Behavior Knowledge Merge in Reinforced Agentic Models", arXiv 2601.13572:
// reinforcement learning changes few elements, so an average over all experts dilutes what one of them alone has
// learned. As mergekit has it, with d_i = theta_i - theta_base, input i active where |d_i| > epsilon, and n the
// number of active inputs of an element:
//
//     ram         theta = theta_base + 1/n sum over the active i of d_i        theta_base where n = 0
//     ramplus_tl  likewise, but where n = 1 the one d_i is multiplied by
//                 1 + r min(alpha, shared_i / unique_i)
//
// unique_i and shared_i count the elements of the tensor in which i is active alone, and with others.

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// |delta| > epsilon. @param epsilon >= 0
AIMERGE_KERNEL bool isActive(float delta, float epsilon) {
    return floatOfBits(bitsOfFloat(delta) & 0x7FFFFFFFu) > epsilon;
}

template <int kInputs>
struct RamCombine {
    static constexpr bool kTakesBase = true;
    PerInput<float, kInputs> amplification;  // of what the input alone changed; 1 in ram
    float epsilon;

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float sum = 0, amplified = 0, active = 0;
        for (int i = 0; i < theta.count(); ++i) {
            const float delta = theta[i] - base;
            const bool counts = isActive(delta, epsilon);
            const float kept = floatOfBits(selectBits(counts, bitsOfFloat(delta), 0u));
            sum += kept;
            amplified += amplification[i] * kept;
            active += floatOfBits(selectBits(counts, bitsOfFloat(1.0f), 0u));
        }
        const float divisor = floatOfBits(selectBits(active == 0, bitsOfFloat(1.0f), bitsOfFloat(active)));
        const std::uint32_t change = selectBits(active == 1, bitsOfFloat(amplified), bitsOfFloat(sum / divisor));
        return addDelta(base, floatOfBits(change));
    }
};

const Method& ramMethod();
const Method& ramPlusMethod();

}  // namespace aimerge
