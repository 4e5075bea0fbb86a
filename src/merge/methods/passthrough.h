#pragma once
// Passthrough: takes layers over as they are, or scaled. With slices it stacks the layers of one or several models.
//     y = scale x

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// A scale of 1 gives x itself: every finite float times 1 has the same bits.
struct PassthroughCombine {
    static constexpr bool kTakesBase = false;
    float scale;

    AIMERGE_KERNEL float operator()(float /*base*/, const InputsAt<1>& x) const { return x[0] * scale; }
};

/// `scale` per model.
const Method& passthroughMethod();

}  // namespace aimerge
