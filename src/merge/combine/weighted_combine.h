#pragma once
// The combine of every method that ends in coefficients: a linear combination of the inputs, written around a reference r
// (the base, or the first input where there is none) so that little is lost when all are close to it.
//
//     theta = r + sum_i c_i (theta_i - r) + e r          e = sum_i c_i - 1, or 0 where changes from the base are merged
//
// With e = 0, inputs that all equal r give r's bits.

#include "aimerge/merge/element_wise.h"

namespace aimerge {

/// Coefficients of the whole stretch.
template <int kInputs>
struct WeightedChangesCombine {
    static constexpr bool kTakesBase = true;  // the reference
    PerInput<float, kInputs> coefficient;
    float excess;  // e

    AIMERGE_KERNEL float operator()(float reference, const InputsAt<kInputs>& theta) const {
        float sum = excess * reference;
        for (int i = 0; i < theta.count(); ++i) sum += coefficient[i] * (theta[i] - reference);
        return addDelta(reference, sum);
    }
};

/// Coefficients of each element's column.
template <int kInputs>
struct ColumnWeightedChangesCombine {
    static constexpr bool kTakesBase = true;
    PerInput<const float*, kInputs> coefficient;  // at the stretch's first column
    const float* excess;

    AIMERGE_KERNEL float operator()(float reference, const InputsAt<kInputs>& theta) const {
        float sum = excess[theta.element] * reference;
        for (int i = 0; i < theta.count(); ++i) sum += coefficient[i][theta.element] * (theta[i] - reference);
        return addDelta(reference, sum);
    }
};

}  // namespace aimerge
