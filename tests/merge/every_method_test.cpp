// What holds for every merge method, whatever it computes: run through the executor with settings that are not the defaults.

#include "aimerge/core/error.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/method_jobs.h"

#include <gmock/gmock.h>

#include <atomic>
#include <limits>

namespace aimerge {
namespace {

using testing::HasSubstr;

std::vector<Floats> merged(const TensorMerge& merge, const std::vector<std::optional<double>>& omegas = {},
                           int threads = 2) {
    ThreadPool pool(threads);
    MemorySink sink;
    mergeTensors({&merge, 1}, omegas, DeltaRounding::None, pool, sink);
    std::vector<Floats> points;
    for (std::size_t point = 0; point < std::max<std::size_t>(omegas.size(), 1); ++point)
        points.push_back(sink.values<float>(0, point));
    return points;
}

class EveryMethod : public testing::TestWithParam<std::string> {
protected:
    const Method& method_ = findMethod(GetParam(), {});
};
INSTANTIATE_TEST_SUITE_P(, EveryMethod, testing::ValuesIn(allMethodNames()), [](const auto& test) { return test.param; });

TEST_P(EveryMethod, MovesTheBaseAndStaysFinite) {
    const MethodJob job(method_, {37, 53});

    const Floats out = merged(job.merge()).front();

    EXPECT_NE(bitsOf(out), bitsOf(job.base));
    for (const float value : out) ASSERT_LT(std::abs(value), 1.0f);
}

TEST_P(EveryMethod, TakesTensorsOfOneElementOneRowAndOneColumn) {
    for (const Shape& shape : {Shape{1}, Shape{7}, Shape{1, 1}, Shape{1, 7}, Shape{7, 1}}) {
        const Floats out = merged(MethodJob(method_, shape).merge()).front();

        ASSERT_EQ(static_cast<std::int64_t>(out.size()), elementCount(shape));
        for (const float value : out) EXPECT_LT(std::abs(value), 1.0f) << shapeText(shape);
    }
}

TEST_P(EveryMethod, OfUnchangedExpertsIsTheBase) {
    for (const Shape& shape : {Shape{29}, Shape{13, 17}}) {
        MethodJob job(method_, shape);
        for (Floats& input : job.inputs) input = job.base;

        const Floats out = merged(job.merge()).front();

        // Passing through scaled-free, averaging and adding changes of zero are exact; directions on a sphere are computed.
        for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], job.base[i], 1e-6f * std::abs(job.base[i]) + 1e-9f);
    }
}

TEST_P(EveryMethod, HasTheSameBitsForAnyThreadsAndInstructions) {
    const InstructionSet best = bestInstructionSet();
    for (const Shape& shape : {Shape{70001}, Shape{131, 1031}, Shape{1031, 131}}) {
        const MethodJob job(method_, shape);
        const auto expected = bitsOf(merged(job.merge(), {}, 1).front());

        for (const int threads : {2, 5}) EXPECT_EQ(bitsOf(merged(job.merge(), {}, threads).front()), expected) << threads;
        for (const InstructionSet set : {InstructionSet::Baseline, InstructionSet::Avx2}) {
            limitInstructionSet(set);
            EXPECT_EQ(bitsOf(merged(job.merge()).front()), expected) << static_cast<int>(set);
        }
        limitInstructionSet(best);
    }
}

/// Counts what a prepare pass reads.
class CountingReader : public MemoryReader {
public:
    using MemoryReader::MemoryReader;
    void visit(std::int64_t first, std::int64_t count, std::span<const std::size_t> wanted, int worker,
               const Visit& visitChunk) override {
        ++visits;
        MemoryReader::visit(first, count, wanted, worker, visitChunk);
    }
    std::atomic<int> visits = 0;
};

TEST_P(EveryMethod, SaysWhetherItReadsBeforeItCombines) {
    const MethodJob job(method_, {37, 53});
    const TensorMerge merge = job.merge();
    ThreadPool pool(2);
    CountingReader reader(job.base, job.inputs, pool, 1000, job.shape);
    reader.grams = merge.statistics;

    const auto prepared = method_.prepare(reader, merge.parameters);

    EXPECT_EQ(reader.visits > 0, method_.passesOver(merge.parameters));
}

TEST_P(EveryMethod, RoundsOnceToBfloat16) {
    const MethodJob job(method_, {61, 67});
    const TensorMerge merge = job.merge(Dtype::BF16);
    ThreadPool pool(2);
    MemorySink sink;

    mergeTensors({&merge, 1}, {}, DeltaRounding::None, pool, sink);

    const Floats unrounded = merged(job.merge()).front();
    const auto out = sink.values<std::uint16_t>(0);
    ASSERT_EQ(out.size(), unrounded.size());
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], bf16FromFloat(unrounded[i])) << i;
}

TEST_P(EveryMethod, IsRelaxedForEveryOmegaInOneRead) {
    const MethodJob job(method_, {37, 53});
    TensorMerge merge = job.merge();
    merge.importance = ChannelImportance{Floats(53), ChannelLayout::of(merge.shape, -1)};
    for (std::size_t c = 0; c < 53; ++c) merge.importance->values[c] = static_cast<float>(c) / 52;
    const std::vector<std::optional<double>> omegas{1, 0.4, 0};

    const std::vector<Floats> points = merged(merge, omegas);

    EXPECT_EQ(bitsOf(points[0]), bitsOf(merged(job.merge()).front())) << "omega 1 is the plain merge";
    for (std::size_t i = 0; i < omegas.size(); ++i)
        EXPECT_EQ(bitsOf(points[i]), bitsOf(merged(merge, {omegas[i]}).front())) << *omegas[i];
    for (std::size_t r = 0; r < 37; ++r)  // at omega 0 the most active channel, A = 1, is the base's
        EXPECT_EQ(bitsOfFloat(points[2][r * 53 + 52]), bitsOfFloat(job.base[r * 53 + 52]));
}

TEST_P(EveryMethod, RefusesValuesThatAreNotFinite) {
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        MethodJob job(method_, {11, 13});
        job.inputs.front()[40] = bad;
        try {
            merged(job.merge());
            FAIL() << "accepted " << bad;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), HasSubstr("expert_0: weight"));
            EXPECT_THAT(error.what(), HasSubstr("at element 40"));
        }
    }
}

TEST_P(EveryMethod, DescribesItselfWhole) {
    const MethodInfo& info = method_.info();

    EXPECT_FALSE(info.description.empty());
    EXPECT_FALSE(info.paper.empty());
    EXPECT_LE(info.minInputs, info.maxInputs);
    for (const ParameterSpec& spec : info.parameters) {
        EXPECT_FALSE(spec.description.empty()) << spec.name;
        EXPECT_EQ(spec.type == ParameterType::Choice, !spec.choices.empty()) << spec.name;
        if (spec.fallback && spec.type != ParameterType::Choice) {
            EXPECT_GE(*spec.fallback, spec.minimum) << spec.name;
            EXPECT_LE(*spec.fallback, spec.maximum) << spec.name;
        }
    }
}

/// Those in which no input stands out, and nothing is drawn by the input's number.
std::vector<std::string> symmetricNames() {
    std::vector<std::string> names;
    for (const Method* method : methods())
        if (inputsOf(method->info()) > 1 && !method->info().isRandom) names.push_back(method->info().name);
    return names;
}

class SymmetricMethod : public EveryMethod {};
INSTANTIATE_TEST_SUITE_P(, SymmetricMethod, testing::ValuesIn(symmetricNames()),
                         [](const auto& test) { return test.param; });

TEST_P(SymmetricMethod, DoesNotDependOnTheOrderOfExperts) {
    for (const Shape& shape : {Shape{501}, Shape{31, 47}}) {
        MethodJob job(method_, shape);
        const TensorMerge listed = job.merge();
        TensorMerge reversed = job.merge();
        std::ranges::reverse(reversed.inputs);
        std::ranges::reverse(reversed.statistics);

        const Floats a = merged(listed).front(), b = merged(reversed).front();

        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6f) << i;
    }
}

}  // namespace
}  // namespace aimerge
