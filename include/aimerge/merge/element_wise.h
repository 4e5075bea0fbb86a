#pragma once
// The vocabulary in which a method writes its element-wise combine: one function object for host and device, a template on
// the number of inputs, so that the loop over the inputs unrolls and the loop over the elements vectorises.
//
//     template <int kInputs>
//     struct SumCombine {
//         static constexpr bool kTakesBase = true;
//         PerInput<float, kInputs> weight;
//         AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& x) const {
//             float sum = 0;
//             for (int i = 0; i < x.count(); ++i) sum += weight[i] * (x[i] - base);
//             return base + sum;
//         }
//     };

#include "aimerge/core/bfloat.h"
#include "aimerge/core/host_device.h"

#include <cstddef>

/// A host/device function that is inlined wherever it is used: kernels are compiled for several targets.
#define AIMERGE_KERNEL AIMERGE_HD inline __attribute__((always_inline))

namespace aimerge {

/// kInputs up to this are compiled one by one; kAnyNumber serves the rest.
inline constexpr int kMostUnrolledInputs = 8;
inline constexpr int kAnyNumber = 0;

/// One value per input, held by value where their number is known.
template <typename Value, int kInputs>
struct PerInput {
    Value values[kInputs];

    AIMERGE_KERNEL const Value& operator[](int input) const { return values[input]; }

    static PerInput from(const Value* source) {
        PerInput copy;
        for (int i = 0; i < kInputs; ++i) copy.values[i] = source[i];
        return copy;
    }
};

template <typename Value>
struct PerInput<Value, kAnyNumber> {
    const Value* values;

    AIMERGE_KERNEL const Value& operator[](int input) const { return values[input]; }

    static PerInput from(const Value* source) { return {source}; }
};

/// The inputs' values of one element.
template <int kInputs>
struct InputsAt {
    const PerInput<const float*, kInputs>& inputs;
    std::size_t offset;   // of the values from `inputs`
    std::size_t element;  // its number in the stretch
    int number;

    AIMERGE_KERNEL int count() const { return kInputs == kAnyNumber ? number : kInputs; }
    AIMERGE_KERNEL float operator[](int input) const { return inputs[input][offset]; }
};

/// Whether a merged change is divided by the sum of weights. A template parameter of combines: a loop that asks for each
/// element is not vectorised.
enum class Normalize : bool { No, Yes };

/// base + delta; no change at all leaves the base's bits, where -0 + 0 would be +0.
AIMERGE_KERNEL float addDelta(float base, float delta) {
    return floatOfBits(selectBits(delta == 0, bitsOfFloat(base), bitsOfFloat(base + delta)));
}

}  // namespace aimerge
