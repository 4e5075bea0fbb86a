#pragma once
// What one thread of a grid does: every stride-th element of a stretch, from the tensors' own dtypes to finished values of
// every omega. Inputs are read once and outputs written once. The text is host and device code; the device runs it in
// merge/for_each_element.cuh.

#include "aimerge/core/dtype.h"
#include "aimerge/merge/relax_element.h"

#include <cstddef>
#include <cstdint>

namespace aimerge {

/// Values of a tensor as its file has them: BF16, F16 or F32, aligned to their size.
struct RawValues {
    const void* data = nullptr;
    Dtype dtype = Dtype::BF16;

    AIMERGE_KERNEL float at(std::size_t i) const {
        if (dtype == Dtype::BF16) return floatFromBf16(static_cast<const std::uint16_t*>(data)[i]);
        if (dtype == Dtype::F16) return floatFromFp16(static_cast<const std::uint16_t*>(data)[i]);
        return static_cast<const float*>(data)[i];
    }
};

/// Where finished values go, in one of the same dtypes.
struct RawOutput {
    void* data = nullptr;
    Dtype dtype = Dtype::BF16;

    AIMERGE_KERNEL void set(std::size_t i, float value) const {
        if (dtype == Dtype::BF16)
            static_cast<std::uint16_t*>(data)[i] = bf16FromFloat(value);
        else if (dtype == Dtype::F16)
            static_cast<std::uint16_t*>(data)[i] = fp16FromFloat(value);
        else
            static_cast<float*>(data)[i] = value;
    }
};

/// The relaxation for `points` omegas; one point and no factors: the merged values as they are.
struct RawRelaxation {
    std::size_t points = 1;
    std::size_t channels = 1;
    std::size_t firstChannel = 0;    // of the stretch's first element
    const float* factors = nullptr;  // [points][channels], 1 - A (1 - omega): Relaxation::factors() of each omega
    DeltaRounding rounding = DeltaRounding::None;

    AIMERGE_KERNEL float operator()(float base, float merged, std::size_t point, std::size_t channel) const {
        const float factor = factors[point * channels + channel];
        if (rounding == DeltaRounding::Bfloat16) return relaxElement<DeltaRounding::Bfloat16>(base, merged, factor);
        return relaxElement<DeltaRounding::None>(base, merged, factor);
    }
};

/// All pointers are to memory of whoever walks.
template <int kInputs, typename Combine>
struct StridedWalk {
    Combine combine;
    RawValues base;  // null when neither combine nor relaxation takes one
    PerInput<RawValues, kInputs> inputs;
    RawRelaxation relaxation;
    RawOutput out;  // [points][count]
    std::size_t count = 0;

    /// Elements begin, begin + stride, ... below count.
    AIMERGE_KERNEL void operator()(std::size_t begin, std::size_t stride) const {
        // The channel moves along by addition: a division for each element would cost more than its arithmetic.
        const std::size_t channelStep = stride % relaxation.channels;
        std::size_t channel = (relaxation.firstChannel + begin) % relaxation.channels;
        for (std::size_t i = begin; i < count; i += stride) {
            const float baseValue = base.data == nullptr ? 0.0f : base.at(i);
            const float merged = combineAt(i, baseValue);
            if (relaxation.factors == nullptr) {
                out.set(i, merged);
            } else {
                for (std::size_t point = 0; point < relaxation.points; ++point)
                    out.set(point * count + i, relaxation(baseValue, merged, point, channel));
            }
            channel += channelStep;
            if (channel >= relaxation.channels) channel -= relaxation.channels;
        }
    }

private:
    /// A combine may look at an input more than once; each is read and converted once, into registers.
    AIMERGE_KERNEL float combineAt(std::size_t i, float baseValue) const {
        float values[kInputs];
        PerInput<const float*, kInputs> pointers;
        for (int input = 0; input < kInputs; ++input) {
            values[input] = inputs[input].at(i);
            pointers.values[input] = &values[input];
        }
        return combine(Combine::kTakesBase ? baseValue : 0.0f, InputsAt<kInputs>{pointers, 0, i, kInputs});
    }
};

}  // namespace aimerge
