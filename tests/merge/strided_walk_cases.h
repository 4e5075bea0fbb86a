#pragma once
// The walks that every combine is tested with, and what the CPU's merge makes of the same bytes.

#include "aimerge/merge/relaxation.h"
#include "merge/combine/for_each_element.h"
#include "merge/memory_parameter.h"
#include "merge/sources/convert.h"
#include "merge/walker.h"

#include <gtest/gtest.h>

#include <utility>

namespace aimerge {

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
        const ChannelLayout layout{.channels = static_cast<std::int64_t>(channels), .matrixElements = std::int64_t{1} << 40};
        for (const double omega : omegas) all.emplace_back(ChannelImportance{importance, layout}, omega, rounding);
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

/// The same by a StridedWalk.
template <int kInputs, typename Combine>
Bytes mergedByWalk(const WalkCase& stretch, const Combine& combine) {
    using Memory = Walker::Memory;
    StridedWalk<kInputs, Combine> walk{
        .combine = combine, .base = {}, .inputs = {}, .relaxation = {}, .relaxedFrom = {}, .out = {}};
    Memory base(stretch.base());
    walk.base = walk.relaxedFrom = {base.data(), stretch.baseDtype};
    std::vector<Memory> inputs;
    for (std::size_t i = 0; i < kInputs; ++i) inputs.emplace_back(stretch.input(i));
    for (std::size_t i = 0; i < kInputs; ++i) walk.inputs.values[i] = {inputs[i].data(), stretch.inputDtype(i)};
    Memory factors(stored(stretch.factors(), Dtype::F32));
    if (!stretch.omegas.empty())
        walk.relaxation = {stretch.points(), stretch.channels, stretch.firstChannel,
                           static_cast<const float*>(static_cast<const void*>(factors.data())), stretch.rounding};
    Memory out(Bytes(stretch.outBytes()));
    walk.out = {out.data(), stretch.outDtype};
    walk.count = walk.pointStride = stretch.count;
    Memory flag(Bytes(sizeof(std::uint32_t)));
    walk.notFinite = static_cast<std::uint32_t*>(static_cast<void*>(flag.data()));

    Walker::run(walk);

    Bytes finished(stretch.outBytes()), found(sizeof(std::uint32_t));
    Walker::fetch(out, finished);
    Walker::fetch(flag, found);
    EXPECT_TRUE(std::ranges::all_of(found, [](std::byte byte) { return byte == std::byte{0}; })) << stretch.text();
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
template <int kInputs, typename Make>
void expectTheBitsOfTheCpu(const char* name, const Make& make) {
    for (const WalkCase& stretch : walkCases()) {
        const Floats numbers = normalValues((kInputs + 1) * stretch.count, 99, 1);
        Walker::Memory copy(stored(numbers, Dtype::F32));
        const auto* const copied = static_cast<const float*>(static_cast<const void*>(copy.data()));

        const Bytes expected = mergedOnCpu<kInputs>(stretch, make(PerElement{numbers.data(), stretch.count}));
        const Bytes found = mergedByWalk<kInputs>(stretch, make(PerElement{copied, stretch.count}));

        EXPECT_TRUE(found == expected) << name << " of " << kInputs << " inputs, " << stretch.text();
    }
}

/// Calls use(std::integral_constant<int, N>) for every number of inputs that is compiled one by one.
template <typename Use>
void forEachInputCount(const Use& use) {
    [&]<int... kBelow>(std::integer_sequence<int, kBelow...>) {
        (use(std::integral_constant<int, kBelow + 1>{}), ...);
    }
    (std::make_integer_sequence<int, kMostUnrolledInputs>{});
}

}  // namespace aimerge
