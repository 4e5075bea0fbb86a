#pragma once
// What one thread of a grid does: every stride-th element of a stretch, from the tensors' own dtypes to finished values of
// every omega. Inputs are read once and outputs written once. The text is host and device code; the device runs it in
// merge/combine/for_each_element.cuh.

#include "aimerge/core/dtype.h"
#include "aimerge/merge/relax_element.h"

#include <cstddef>
#include <cstdint>

namespace aimerge {

AIMERGE_KERNEL bool isFiniteFloat(float value) {
    return (bitsOfFloat(value) & 0x7FFFFFFFu) < 0x7F800000u;
}

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

    /// @return whether what was stored is finite
    AIMERGE_KERNEL bool set(std::size_t i, float value) const {
        if (dtype == Dtype::BF16) {
            const std::uint16_t bits = bf16FromFloat(value);
            static_cast<std::uint16_t*>(data)[i] = bits;
            return (bits & 0x7FFFu) < 0x7F80u;
        }
        if (dtype == Dtype::F16) {
            const std::uint16_t bits = fp16FromFloat(value);
            static_cast<std::uint16_t*>(data)[i] = bits;
            return (bits & 0x7FFFu) < 0x7C00u;
        }
        static_cast<float*>(data)[i] = value;
        return isFiniteFloat(value);
    }
};

/// The relaxation for `points` omegas; one point and no factors: the merged values as they are.
struct RawRelaxation {
    std::size_t points = 1;
    std::size_t channels = 1;
    std::size_t firstChannel = 0;    // of the stretch's first element
    const float* factors = nullptr;  // [points][channels], 1 - A (1 - omega): Relaxation::factors() of each omega
    DeltaRounding rounding = DeltaRounding::None;

    /// A factor that no relaxation has: the point has the merged values.
    static constexpr float kAsMerged = 2;

    AIMERGE_KERNEL float operator()(float base, float merged, std::size_t point, std::size_t channel) const {
        const float factor = factors[point * channels + channel];
        if (factor == kAsMerged) return merged;
        if (rounding == DeltaRounding::Bfloat16) return relaxElement<DeltaRounding::Bfloat16>(base, merged, factor);
        return relaxElement<DeltaRounding::None>(base, merged, factor);
    }
};

/// All pointers are to memory of whoever walks.
template <int kInputs, typename Combine>
struct StridedWalk {
    Combine combine;
    RawValues base;  // the combine's; null when it takes none
    PerInput<RawValues, kInputs> inputs;
    RawRelaxation relaxation;
    RawValues relaxedFrom;  // the relaxation's base; null when there is none
    RawOutput out;          // [points][pointStride]
    std::size_t pointStride = 0;
    std::size_t count = 0;
    std::uint32_t* notFinite = nullptr;  // becomes 1 when any value read or stored is NaN or infinite

    /// Elements begin, begin + stride, ... below count.
    AIMERGE_KERNEL void operator()(std::size_t begin, std::size_t stride) const {
        // The channel moves along by addition: a division for each element would cost more than its arithmetic.
        const std::size_t channelStep = stride % relaxation.channels;
        std::size_t channel = (relaxation.firstChannel + begin) % relaxation.channels;
        bool allFinite = true;
        for (std::size_t i = begin; i < count; i += stride) {
            const float merged = combineAt(i, allFinite);
            if (relaxation.factors == nullptr) {
                allFinite &= out.set(i, merged);
            } else {
                const float baseValue = relaxedFrom.at(i);
                allFinite &= isFiniteFloat(baseValue);
                for (std::size_t point = 0; point < relaxation.points; ++point)
                    allFinite &= out.set(point * pointStride + i, relaxation(baseValue, merged, point, channel));
            }
            channel += channelStep;
            if (channel >= relaxation.channels) channel -= relaxation.channels;
        }
        if (!allFinite) *notFinite = 1;
    }

private:
    /// A combine may look at an input more than once; each is read and converted once, into registers.
    AIMERGE_KERNEL float combineAt(std::size_t i, bool& allFinite) const {
        float values[kInputs];
        PerInput<const float*, kInputs> pointers;
        for (int input = 0; input < kInputs; ++input) {
            values[input] = inputs[input].at(i);
            allFinite &= isFiniteFloat(values[input]);
            pointers.values[input] = &values[input];
        }
        const float baseValue = Combine::kTakesBase ? base.at(i) : 0.0f;
        allFinite &= isFiniteFloat(baseValue);
        return combine(baseValue, InputsAt<kInputs>{pointers, 0, i, kInputs});
    }
};

}  // namespace aimerge
