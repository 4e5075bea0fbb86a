#pragma once
// The walks that host and device are tested with, and what the CPU's merge makes of the same bytes.

#include "aimerge/merge/convert.h"
#include "aimerge/merge/linear.h"
#include "aimerge/merge/model_stock.h"
#include "aimerge/merge/relaxation.h"
#include "aimerge/merge/slerp.h"
#include "aimerge/merge/task_vectors.h"
#include "aimerge/merge/weighted_changes.h"
#include "merge/for_each_element.h"
#include "merge/memory_parameter.h"
#include "merge/strided_walk.h"

#include <gtest/gtest.h>

#include <array>

namespace aimerge {

using Bytes = std::vector<std::byte>;

inline Bytes stored(const Floats& values, Dtype dtype) {
    Bytes bytes(values.size() * bytesPerElement(dtype));
    fromFloat(values, dtype, bytes.data());
    return bytes;
}

inline Floats loaded(const Bytes& bytes, Dtype dtype) {
    Floats values(bytes.size() / bytesPerElement(dtype));
    toFloat(dtype, bytes.data(), values);
    return values;
}

/// A stretch in host memory.
struct WalkCase {
    std::size_t count;
    std::vector<double> omegas;  // empty: not relaxed
    std::size_t channels = 7, firstChannel = 5;
    DeltaRounding rounding = DeltaRounding::None;
    Dtype baseDtype = Dtype::BF16, outDtype = Dtype::BF16;
    std::vector<Dtype> inputDtypes = {Dtype::BF16};  // in turn

    Dtype inputDtype(std::size_t input) const { return inputDtypes[input % inputDtypes.size()]; }
    std::size_t points() const { return std::max<std::size_t>(omegas.size(), 1); }
    std::size_t outBytes() const { return points() * count * bytesPerElement(outDtype); }

    /// Of each omega.
    std::vector<Relaxation> relaxations() const {
        Floats importance(channels);
        for (std::size_t i = 0; i < channels; ++i) importance[i] = static_cast<float>(i) / static_cast<float>(channels - 1);
        std::vector<Relaxation> all;
        for (const double omega : omegas) all.emplace_back(importance, omega, rounding);
        return all;
    }

    Floats factors() const {
        Floats all;
        for (const Relaxation& relaxation : relaxations())
            all.insert(all.end(), relaxation.factors().begin(), relaxation.factors().end());
        return all;
    }

    Bytes base() const { return stored(normalValues(count, 1, 1), baseDtype); }

    /// Small changes to the base; every eleventh element has none.
    Bytes input(std::size_t number) const {
        Floats values = normalValues(count, 1, 1);
        const Floats changes = normalValues(count, number + 2, 0.25f);
        for (std::size_t i = 0; i < count; ++i) values[i] += i % 11 == 0 ? 0 : changes[i];
        return stored(values, inputDtype(number));
    }

    std::string text() const {
        return fmt::format("{} elements, {} omegas, {} to {}", count, omegas.size(), torchName(baseDtype),
                           torchName(outDtype));
    }
};

inline std::vector<WalkCase> walkCases() {
    std::vector<WalkCase> cases;
    for (const std::size_t count : {0u, 1u, 257u, 10007u}) cases.push_back({.count = count, .omegas = {}});
    for (const DeltaRounding rounding : {DeltaRounding::None, DeltaRounding::Bfloat16})
        cases.push_back({.count = 10007, .omegas = {1, 0.4, 0}, .rounding = rounding, .outDtype = Dtype::F32});
    cases.push_back({.count = 4099, .omegas = {0.4}, .channels = 4100, .firstChannel = 4000});
    for (const Dtype dtype : {Dtype::BF16, Dtype::F16, Dtype::F32})
        cases.push_back({.count = 4099,
                         .omegas = {0.4},
                         .baseDtype = dtype,
                         .outDtype = dtype,
                         .inputDtypes = {Dtype::F32, Dtype::F16, Dtype::BF16}});
    return cases;
}

/// What the CPU's kernels make of it: convert, combine, relax, round.
template <int kInputs, typename Combine>
Bytes mergedOnCpu(const WalkCase& stretch, const Combine& combine) {
    const Floats base = loaded(stretch.base(), stretch.baseDtype);
    std::vector<Floats> inputs;
    for (std::size_t i = 0; i < kInputs; ++i) inputs.push_back(loaded(stretch.input(i), stretch.inputDtype(i)));
    std::vector<const float*> pointers;
    for (const Floats& input : inputs) pointers.push_back(input.data());

    Floats merged(stretch.count);
    forEachElement<kInputs>(combine, base.data(), pointers, merged);
    if (stretch.omegas.empty()) return stored(merged, stretch.outDtype);
    Bytes all;
    for (const Relaxation& relaxation : stretch.relaxations()) {
        Floats relaxed(stretch.count);
        relaxation.apply(static_cast<std::int64_t>(stretch.firstChannel), base, merged, relaxed);
        const Bytes finished = stored(relaxed, stretch.outDtype);
        all.insert(all.end(), finished.begin(), finished.end());
    }
    return all;
}

/// The same by a StridedWalk. Memory is where Walker puts it: Walker::Memory is made from bytes and has data();
/// Walker::run(walk); Walker::fetch(memory, bytes).
template <typename Walker, int kInputs, typename Combine>
Bytes mergedByWalk(const WalkCase& stretch, const Combine& combine) {
    using Memory = typename Walker::Memory;
    StridedWalk<kInputs, Combine> walk{.combine = combine, .base = {}, .inputs = {}, .relaxation = {}, .out = {}};
    Memory base(stretch.base());
    walk.base = {base.data(), stretch.baseDtype};
    std::vector<Memory> inputs;
    for (std::size_t i = 0; i < kInputs; ++i) inputs.emplace_back(stretch.input(i));
    for (std::size_t i = 0; i < kInputs; ++i) walk.inputs.values[i] = {inputs[i].data(), stretch.inputDtype(i)};
    Memory factors(stored(stretch.factors(), Dtype::F32));
    if (!stretch.omegas.empty())
        walk.relaxation = {stretch.points(), stretch.channels, stretch.firstChannel,
                           static_cast<const float*>(static_cast<const void*>(factors.data())), stretch.rounding};
    Memory out(Bytes(stretch.outBytes()));
    walk.out = {out.data(), stretch.outDtype};
    walk.count = stretch.count;

    Walker::run(walk);

    Bytes finished(stretch.outBytes());
    Walker::fetch(out, finished);
    return finished;
}

template <int kInputs>
constexpr PerInput<float, kInputs> someWeights() {
    PerInput<float, kInputs> weights{};
    for (int i = 0; i < kInputs; ++i) weights.values[i] = 0.3f + 0.15f * static_cast<float>(i);
    return weights;
}

/// Magnitudes that some of the changes of a WalkCase reach.
template <int kInputs>
PerInput<std::uint32_t, kInputs> someMagnitudes(float first) {
    PerInput<std::uint32_t, kInputs> magnitudes{};
    for (int i = 0; i < kInputs; ++i) magnitudes.values[i] = bitsOfFloat(first * static_cast<float>(i + 1));
    return magnitudes;
}

/// Coefficients of each element: [kInputs + 1, count] numbers, the first row for what is not an input's.
struct PerElement {
    const float* values;
    std::size_t count;

    template <int kInputs>
    PerInput<const float*, kInputs> ofInputs() const {
        PerInput<const float*, kInputs> pointers;
        for (std::size_t i = 0; i < kInputs; ++i) pointers.values[i] = values + (i + 1) * count;
        return pointers;
    }
};

/// One combine with one number of inputs over all cases. @param make the combine from a PerElement
template <typename Walker, int kInputs, typename Make>
void expectTheBitsOfTheCpu(const char* name, const Make& make) {
    for (const WalkCase& stretch : walkCases()) {
        const Floats numbers = normalValues((kInputs + 1) * stretch.count, 99, 1);
        typename Walker::Memory copy(stored(numbers, Dtype::F32));
        const auto* const copied = static_cast<const float*>(static_cast<const void*>(copy.data()));

        const Bytes expected = mergedOnCpu<kInputs>(stretch, make(PerElement{numbers.data(), stretch.count}));
        const Bytes found = mergedByWalk<Walker, kInputs>(stretch, make(PerElement{copied, stretch.count}));

        EXPECT_TRUE(found == expected) << name << " of " << kInputs << " inputs, " << stretch.text();
    }
}

template <typename Walker, int kInputs, Normalize kNormalize>
void expectTaskVectorsToAgree() {
    constexpr PerInput<float, kInputs> weights = someWeights<kInputs>();
    const auto least = someMagnitudes<kInputs>(0.05f), dropped = someMagnitudes<kInputs>(0.15f);
    const auto expect = [](const char* name, const auto& make) { expectTheBitsOfTheCpu<Walker, kInputs>(name, make); };
    expect("linear", [=](PerElement) { return LinearCombine<kInputs, kNormalize>{weights, 1.7f}; });
    expect("sum of all", [=](PerElement) { return SumCombine<KeepAll, kInputs, kNormalize>{{}, weights, 1.7f, 0.7f}; });
    expect("consensus of the largest", [=](PerElement) {
        return ConsensusCombine<KeepFrom, kInputs, kNormalize>{{least, weights}, weights, 0.7f};
    });
    expect("sum of a range", [=](PerElement) {
        return SumCombine<KeepBetween, kInputs, kNormalize>{{least, dropped, weights}, weights, 1.7f, 0.7f};
    });
    expect("consensus of a range", [=](PerElement) {
        return ConsensusCombine<KeepBetween, kInputs, kNormalize>{{least, dropped, weights}, weights, 0.7f};
    });
    expect("sum of scaled changes", [=](PerElement each) {
        return SumCombine<ScaleEach, kInputs, kNormalize>{{each.ofInputs<kInputs>()}, weights, 1.7f, 0.7f};
    });
    expect("consensus of scaled changes", [=](PerElement each) {
        return ConsensusCombine<ScaleEach, kInputs, kNormalize>{{each.ofInputs<kInputs>()}, weights, 0.7f};
    });
}

template <typename Walker, int kInputs>
void expectCoefficientsToAgree() {
    constexpr PerInput<float, kInputs> weights = someWeights<kInputs>();
    const auto expect = [](const char* name, const auto& make) { expectTheBitsOfTheCpu<Walker, kInputs>(name, make); };
    expect("model stock", [](PerElement) { return ModelStockCombine<kInputs>{0.4f, 0.6f, static_cast<float>(kInputs)}; });
    expect("weighted changes", [=](PerElement) { return WeightedChangesCombine<kInputs>{weights, 0.1f}; });
    expect("column-weighted changes", [](PerElement each) {
        return ColumnWeightedChangesCombine<kInputs>{each.ofInputs<kInputs>(), each.values};
    });
}

/// Every combine, for 1 to kMostUnrolledInputs inputs.
template <typename Walker, int kInputs = kMostUnrolledInputs>
void expectEveryMethodToAgree() {
    expectTaskVectorsToAgree<Walker, kInputs, Normalize::No>();
    expectTaskVectorsToAgree<Walker, kInputs, Normalize::Yes>();
    expectCoefficientsToAgree<Walker, kInputs>();
    if constexpr (kInputs > 1)
        expectEveryMethodToAgree<Walker, kInputs - 1>();
    else
        for (const bool isChord : {false, true})
            expectTheBitsOfTheCpu<Walker, 1>("slerp", [=](PerElement) { return SlerpCombine{0.3f, 0.7f, isChord}; });
}

}  // namespace aimerge
