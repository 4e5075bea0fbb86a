#pragma once
// Which part of a task vector d_i = theta_i - theta_base takes part in a merge: a function object for host and device that
// gives the value that is left of one element. One for each way of trimming; the combines of merge/combine/task_vectors.h take any.

#include "aimerge/core/bfloat.h"
#include "aimerge/merge/element_wise.h"

#include <cstdint>

namespace aimerge {

/// All of it.
template <int kInputs>
struct KeepAll {
    AIMERGE_KERNEL float operator()(int, float delta, const InputsAt<kInputs>&) const { return delta; }
};

/// Magnitudes from `least` on, as the bits of a float32.
template <int kInputs>
struct KeepFrom {
    PerInput<std::uint32_t, kInputs> least;
    PerInput<float, kInputs> rescale;  // factor of what is left

    AIMERGE_KERNEL float operator()(int i, float delta, const InputsAt<kInputs>&) const {
        const std::uint32_t bits = bitsOfFloat(delta);
        return rescale[i] * floatOfBits(selectBits((bits & 0x7FFFFFFFu) >= least[i], bits, 0u));
    }
};

/// Magnitudes from `least` on and below `dropped`.
template <int kInputs>
struct KeepBetween {
    PerInput<std::uint32_t, kInputs> least, dropped;
    PerInput<float, kInputs> rescale;

    AIMERGE_KERNEL float operator()(int i, float delta, const InputsAt<kInputs>&) const {
        const std::uint32_t bits = bitsOfFloat(delta), magnitude = bits & 0x7FFFFFFFu;
        const bool kept = (magnitude >= least[i]) & (magnitude < dropped[i]);
        return rescale[i] * floatOfBits(selectBits(kept, bits, 0u));
    }
};

/// Each element by its own factor: 0 for what is dropped.
template <int kInputs>
struct ScaleEach {
    PerInput<const float*, kInputs> factor;  // at the stretch's first element

    AIMERGE_KERNEL float operator()(int i, float delta, const InputsAt<kInputs>& theta) const {
        return factor[i][theta.element] * delta;
    }
};

}  // namespace aimerge
