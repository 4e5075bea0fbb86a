// A merge method from outside, whole in one file, as docs/contributing.md, "Adding a merge method", walks through it; the executor
// gives it dtypes, threads, relaxation and writing. In the product the last line of the method would stand in
// src/merge/methods/registry.cpp.

#include "merge/combine/for_each_element.h"
#include "merge/memory_parameter.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

namespace aimerge {
namespace {

using testing::ElementsAre;

// 1. The arithmetic, for host and device: the largest change wins, if it is `ratio` times the mean magnitude or more.
template <int kInputs>
struct LoudestCombine {
    static constexpr bool kTakesBase = true;
    float threshold;  // of |change|

    AIMERGE_KERNEL float operator()(float base, const InputsAt<kInputs>& theta) const {
        float loudest = 0;
        for (int i = 0; i < theta.count(); ++i) {
            const std::uint32_t delta = bitsOfFloat(theta[i] - base), current = bitsOfFloat(loudest);
            loudest = floatOfBits(selectBits((delta & 0x7FFFFFFFu) > (current & 0x7FFFFFFFu), delta, current));
        }
        const bool isLoud = floatOfBits(bitsOfFloat(loudest) & 0x7FFFFFFFu) >= threshold;
        return addDelta(base, floatOfBits(selectBits(isLoud, bitsOfFloat(loudest), 0u)));
    }
};

// 2. What the prepare pass found out, and the walk.
class PreparedLoudest : public PreparedParameter {
public:
    explicit PreparedLoudest(float threshold) : threshold_(threshold) {}

    void combine(std::int64_t /*first*/, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        withInputCount(inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(LoudestCombine<kInputs>{threshold_}, base, inputs, out);
        });
    }

private:
    float threshold_;
};

// 3. Name, parameters, and the prepare pass: sums per span, so that they are the same for any number of threads.
class Loudest : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "loudest",
                                     .description = "Per element the largest change, where it is large enough",
                                     .paper = "none: an example",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .parameters = {{.name = "ratio",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 1.0,
                                                     .description = "least magnitude, in means",
                                                     .minimum = 0}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::vector<std::size_t> all = parameter.allInputs();
        std::vector<double> sums(parameter.spans());
        parameter.visitAll(all, [&](const ParameterChunk& chunk) {
            for (const float* input : chunk.inputs)
                for (std::size_t i = 0; i < chunk.count; ++i) sums[chunk.span] += std::abs(double{input[i]} - chunk.base[i]);
        });
        const double mean = std::accumulate(sums.begin(), sums.end(), 0.0) /
                            static_cast<double>(parameter.elements() * static_cast<std::int64_t>(all.size()));
        return std::make_unique<PreparedLoudest>(static_cast<float>(values.shared[0] * mean));
    }
};

const Method& loudestMethod() {
    static const Loudest method;
    return method;
}

TEST(ExampleMethod, CombinesAsItSays) {
    // Magnitudes 4, 1, 1, 2: mean 2. Element 0 takes 4 over 1, element 1 takes 2 over 1.
    EXPECT_THAT(combined(loudestMethod(), parameters(loudestMethod(), {1, 1}), {1, 1}, {{5, 2}, {2, -1}}),
                ElementsAre(5, -1));
}

TEST(ExampleMethod, TakesItsParameter) {
    ResolvedParameters values = parameters(loudestMethod(), {1, 1});
    setShared(loudestMethod(), values, "ratio", 1.5);

    EXPECT_THAT(combined(loudestMethod(), values, {1, 1}, {{5, 2}, {2, -1}}), ElementsAre(5, 1));
}

TEST(ExampleMethod, GetsRelaxationAndDtypesFromTheExecutor) {
    TensorMerge merge =
        tensorMerge(loudestMethod(), parameters(loudestMethod(), {1, 1}), {1, 2}, {1, 1}, {{5, 2}, {2, -1}}, Dtype::BF16);
    merge.importance = ChannelImportance{{1, 0}, ChannelLayout::of(merge.shape, -1)};
    ThreadPool threads(2);
    MemorySink sink;

    mergeTensors({&merge, 1}, std::vector<std::optional<double>>{0.5}, DeltaRounding::None, threads, sink);

    // Channel 0 keeps half of its change of 4, channel 1 all of its change of -2.
    EXPECT_THAT(sink.values<std::uint16_t>(0), ElementsAre(bf16FromFloat(3), bf16FromFloat(-1)));
}

}  // namespace
}  // namespace aimerge
