#pragma once
// Model Stock. Jang, Yun and Han 2024, "Model Stock: all we need is just a few fine-tuned models", arXiv 2403.19522: the k
// experts lie around a centre whose place on the way to their mean follows from the angle between their changes.
//
//     theta = t mean_i theta_i + (1 - t) theta_base,   t = k c / (1 + (k - 1) c)          (Eq. 4)
//
// c: the mean cosine between the changes, over the tensor or with filter_wise per row. The product of norms counts as at
// least 1e-6; t = 0 where |1 + (k - 1) c| < 1e-6 (mergekit).

#include "aimerge/merge/element_wise.h"
#include "aimerge/merge/method.h"

namespace aimerge {

/// Elements in which all experts equal the base stay what they are.
template <int kInputs>
struct ModelStockCombine {
    static constexpr bool kTakesBase = true;
    float t, rest;  // rest = 1 - t
    float count;    // k

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float sum = 0;
        std::uint32_t difference = 0;
        for (int i = 0; i < theta.count(); ++i) {
            sum += theta[i];
            difference |= bitsOfFloat(theta[i]) ^ bitsOfFloat(base);
        }
        const std::uint32_t moved = bitsOfFloat(t * (sum / count) + rest * base);
        return floatOfBits(selectBits(difference == 0, bitsOfFloat(base), moved));
    }
};

const Method& modelStockMethod();

}  // namespace aimerge
