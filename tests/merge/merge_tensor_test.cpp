#include "aimerge/merge/merge_tensor.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"
#include "merge/methods/dare.h"
#include "merge/methods/della.h"
#include "merge/methods/linear.h"
#include "merge/methods/model_stock.h"
#include "merge/methods/sce.h"
#include "merge/methods/task_arithmetic.h"
#include "merge/methods/ties.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::HasSubstr;

constexpr std::size_t kColumns = 1000;

/// Methods whose walks are the executor's patterns: without a base, element-wise, with a prepare pass.
const std::vector<const Method*> kPatterns{&linearMethod(), &taskArithmeticMethod(), &tiesMethod()};

/// A parameter of more than one block of float32 output (1 Mi elements), with many equal changes.
struct Family {
    Floats base = roundedToBf16(normalValues(1'200'000, 1, 0.02f));
    std::vector<Floats> experts;
    Floats importance = normalValues(kColumns, 9, 0.3f);

    explicit Family(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            Floats expert = normalValues(base.size(), 10 + i, 0.002f);
            for (std::size_t j = 0; j < expert.size(); ++j) expert[j] += base[j];
            experts.push_back(roundedToBf16(std::move(expert)));
        }
        for (float& a : importance) a = std::min(std::abs(a), 1.0f);
    }

    TensorMerge merge(const Method& method, const ResolvedParameters& values, Dtype dtype = Dtype::F32) const {
        return tensorMerge(method, values, {static_cast<std::int64_t>(base.size() / kColumns), kColumns}, base, experts,
                           dtype);
    }
};

ResolvedParameters trimmedTies(std::size_t experts) {
    ResolvedParameters values = parameters(tiesMethod(), std::vector<double>(experts, 0.7));
    setPerInput(tiesMethod(), values, "density", std::vector<double>(experts, 0.4));
    setShared(tiesMethod(), values, "rescale", 1);
    return values;
}

void run(std::vector<TensorMerge>& tensors, const std::vector<std::optional<double>>& omegas, MemorySink& sink,
         int threads = 2, DeltaRounding rounding = DeltaRounding::None) {
    ThreadPool pool(threads);
    mergeTensors(tensors, omegas, rounding, pool, sink);
}

std::vector<TensorMerge> listOf(TensorMerge first) {
    std::vector<TensorMerge> tensors;
    tensors.push_back(std::move(first));
    return tensors;
}

TEST(MergeTensors, GivesTheMethodsValuesInBlocks) {
    const Family family(3);
    for (const Method* method : kPatterns) {
        const auto values = parameters(*method, {0.5, 0.25, 1});
        auto tensors = listOf(family.merge(*method, values));
        MemorySink sink;
        run(tensors, {}, sink);
        EXPECT_EQ(bitsOf(sink.values<float>(0)), bitsOf(combined(*method, values, family.base, family.experts)))
            << method->info().name;
        EXPECT_EQ(sink.finished(), 1u);
    }
}

TEST(MergeTensors, HasTheSameBytesForAnyThreadsAndInstructionSet) {
    const Family family(3);
    std::vector<std::vector<std::byte>> results;
    for (const auto set : {InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512}) {
        limitInstructionSet(set);
        for (const int threads : {1, 2, 3}) {
            auto tensors = listOf(family.merge(tiesMethod(), trimmedTies(3), Dtype::BF16));
            tensors[0].importance = ChannelImportance{family.importance, ChannelLayout::of(tensors[0].shape, -1)};
            tensors.push_back(
                family.merge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {0.3, 0.6, 0.1}), Dtype::F16));
            tensors.push_back(family.merge(linearMethod(), parameters(linearMethod(), {0.3, 0.6, 0.1})));
            MemorySink sink;
            run(tensors, {0.3}, sink, threads);
            std::vector<std::byte> all;
            for (std::size_t i = 0; i < tensors.size(); ++i)
                all.insert(all.end(), sink.bytes(i).begin(), sink.bytes(i).end());
            results.push_back(std::move(all));
        }
    }
    limitInstructionSet(bestInstructionSet());
    ASSERT_EQ(results.front().size(), 1'200'000u * (2 + 2 + 4));
    for (std::size_t i = 1; i < results.size(); ++i) EXPECT_TRUE(results[i] == results[0]) << "run " << i;
}

TEST(MergeTensors, TreatsMoreInputsThanAreUnrolledAlike) {
    const std::size_t count = 10;
    Family family(count);
    for (const Method* method : kPatterns) {
        // Input 10 changes nothing: nine do it alone, and eight of them the unrolled way.
        auto nine = family;
        nine.experts.resize(9);
        family.experts[9] = family.base;
        const auto withUnchanged = parameters(*method, std::vector<double>(count, 1));
        if (method == &linearMethod()) continue;  // there the tenth counts
        auto tensors = listOf(family.merge(*method, withUnchanged));
        tensors.push_back(nine.merge(*method, parameters(*method, std::vector<double>(9, 1))));
        MemorySink sink;
        run(tensors, {}, sink);
        EXPECT_EQ(bitsOf(sink.values<float>(0)), bitsOf(sink.values<float>(1))) << method->info().name;
    }
}

double normOfChange(const Floats& base, const Floats& values) {
    double sum = 0;
    for (std::size_t i = 0; i < base.size(); ++i) sum += std::pow(static_cast<double>(values[i]) - base[i], 2);
    return std::sqrt(sum);
}

TEST(MergeTensors, ScaledWholeATensorChangesByAsMuchInItsOwnDirection) {
    const Family family(2);
    const auto values = parameters(taskArithmeticMethod(), {1, 0.5});
    const std::vector<std::optional<double>> omegas{1, 0.4, 0};
    auto tensors = listOf(family.merge(taskArithmeticMethod(), values));
    tensors[0].importance = ChannelImportance{family.importance, ChannelLayout::of(tensors[0].shape, -1)};
    MemorySink relaxed;
    run(tensors, omegas, relaxed);
    tensors[0].scalesWhole = true;
    MemorySink scaled, byOneThread;
    run(tensors, omegas, scaled);
    run(tensors, omegas, byOneThread, 1);

    const Floats merged = relaxed.values<float>(0, 0);
    EXPECT_EQ(bitsOf(scaled.values<float>(0, 0)), bitsOf(merged)) << "omega 1 is the merge";
    for (const std::size_t point : {1u, 2u}) {
        const Floats found = scaled.values<float>(0, point);
        EXPECT_EQ(byOneThread.bytes(0, point), scaled.bytes(0, point));
        const double expected = normOfChange(family.base, relaxed.values<float>(0, point));
        EXPECT_NEAR(normOfChange(family.base, found) / expected, 1, 1e-5);
        const double factor = expected / normOfChange(family.base, merged);
        EXPECT_LT(factor, 0.95);
        for (std::size_t i = 0; i < found.size(); i += 997)
            EXPECT_NEAR(found[i], family.base[i] + factor * (static_cast<double>(merged[i]) - family.base[i]), 1e-7);
    }
}

TEST(MergeTensors, ScaledWholeAnUnchangedTensorStays) {
    Family family(1);
    family.experts[0] = family.base;
    auto tensors = listOf(family.merge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {1})));
    tensors[0].importance = ChannelImportance{family.importance, ChannelLayout::of(tensors[0].shape, -1)};
    tensors[0].scalesWhole = true;
    MemorySink sink;
    run(tensors, {0.4}, sink);
    EXPECT_EQ(bitsOf(sink.values<float>(0)), bitsOf(family.base));
}

TEST(MergeTensors, ReadsOnceForAllOmegas) {
    const Family family(2);
    const auto values = parameters(tiesMethod(), {1, 0.5});
    const std::vector<std::optional<double>> omegas{1, 0.4, 0};
    auto tensors = listOf(family.merge(tiesMethod(), values));
    tensors[0].importance = ChannelImportance{family.importance, ChannelLayout::of(tensors[0].shape, -1)};
    MemorySink together;
    run(tensors, omegas, together);

    for (std::size_t point = 0; point < omegas.size(); ++point) {
        MemorySink alone;
        run(tensors, {omegas[point]}, alone);
        EXPECT_EQ(together.bytes(0, point), alone.bytes(0)) << *omegas[point];
    }
    EXPECT_EQ(bitsOf(together.values<float>(0, 0)), bitsOf(combined(tiesMethod(), values, family.base, family.experts)));
}

TEST(MergeTensors, GivesEveryOmegaTheMergedValuesWithoutImportance) {
    const Family family(1);
    auto tensors = listOf(family.merge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {0.5})));
    MemorySink sink;
    run(tensors, {0, 0.5}, sink);
    EXPECT_EQ(sink.bytes(0, 0), sink.bytes(0, 1));
    EXPECT_EQ(sink.bytes(0, 0).size(), 4 * family.base.size());
}

TEST(MergeTensors, OfExpertsEqualToTheBaseIsTheBase) {
    const Family family(0);
    for (const Method* method : kPatterns) {
        auto tensors =
            listOf(tensorMerge(*method, parameters(*method, {0.3, 0.9}), {static_cast<std::int64_t>(family.base.size())},
                               family.base, {family.base, family.base}));
        MemorySink sink;
        run(tensors, {}, sink);
        EXPECT_EQ(bitsOf(sink.values<float>(0)), bitsOf(family.base)) << method->info().name;
    }
}

TEST(MergeTensors, DoesNotDependOnTheOrderOfExpertsBeyondRounding) {
    const Family family(3);
    for (const Method* method : kPatterns) {
        Family turned = family;
        std::rotate(turned.experts.begin(), turned.experts.begin() + 1, turned.experts.end());
        auto tensors = listOf(family.merge(*method, parameters(*method, {1, 0.5, 0.25})));
        tensors.push_back(turned.merge(*method, parameters(*method, {0.5, 0.25, 1})));
        MemorySink sink;
        run(tensors, {}, sink);
        const Floats a = sink.values<float>(0), b = sink.values<float>(1);
        std::size_t different = 0;
        for (std::size_t i = 0; i < a.size(); ++i)
            different += std::abs(a[i] - b[i]) > 4 * 0x1p-24f * (std::abs(a[i]) + 0.02f);
        // A sum of three that cancels to within rounding may elect the other sign: equal changes of opposite weight, rare.
        EXPECT_LE(different, a.size() / 100000) << method->info().name;
    }
}

TEST(MergeTensors, MergesManyTensorsOfAllSizesTogether) {
    std::vector<TensorMerge> tensors;
    std::vector<Floats> expected;
    for (const std::size_t size : {0u, 1u, 7u, 1023u, 1024u, 1025u, 65537u, 5u}) {
        const Floats base = normalValues(size, size, 1), expert = normalValues(size, size + 1, 1);
        tensors.push_back(tensorMerge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {0.5}),
                                      {static_cast<std::int64_t>(size)}, base, {expert}));
        expected.push_back(combined(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {0.5}), base, {expert}));
    }
    MemorySink sink;
    run(tensors, {}, sink);
    EXPECT_EQ(sink.finished(), tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) EXPECT_EQ(sink.values<float>(i), expected[i]) << i;
}

TEST(MergeTensors, NamesTheModelWithAValueThatIsNotFinite) {
    for (const Method* method : kPatterns) {
        Family family(2);
        family.experts[1][1'100'003] = std::numeric_limits<float>::quiet_NaN();
        auto tensors = listOf(family.merge(*method, parameters(*method, {0, 0})));  // even with weight 0
        if (method == &linearMethod()) setPerInput(*method, tensors[0].parameters, "weight", {1, 0});
        MemorySink sink;
        try {
            run(tensors, {}, sink);
            FAIL() << "accepted by " << method->info().name;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(), HasSubstr("expert_1: weight is nan at element 1100003"));
        }
        EXPECT_EQ(sink.finished(), 0u);
    }
}

TEST(MergeTensors, RefusesAMergedValueBeyondTheOutputDtype) {
    auto tensors = listOf(tensorMerge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {10}), {2}, {0, 0},
                                      {{1, 60000}}, Dtype::F16));
    MemorySink sink;
    try {
        run(tensors, {}, sink);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("weight: a merged value is beyond the range of float16"));
    }
}

TEST(MergeTensors, PassesOnWhatTheSinkThrows) {
    class FullDisk : public MemorySink {
        void write(std::size_t, std::size_t, std::uint64_t, std::span<const std::byte>) override {
            throw RuntimeFault("disk full");
        }
    } sink;
    const Family family(1);
    auto tensors = listOf(family.merge(taskArithmeticMethod(), parameters(taskArithmeticMethod(), {1})));
    EXPECT_THROW(run(tensors, {}, sink), RuntimeFault);
}

/// A tensor of several matrices, and the same as tensors of their own.
struct Stacked {
    static constexpr std::int64_t kMatrices = 3, kRows = 350, kOwnColumns = 37;  // no multiple of a chunk or a span
    static constexpr std::size_t kElements = kRows * kOwnColumns;
    Floats base = normalValues(kMatrices * kElements, 1, 1), first = normalValues(kMatrices * kElements, 2, 1),
           second = normalValues(kMatrices * kElements, 3, 1);

    static Floats part(const Floats& whole, std::int64_t matrix) {
        const auto begin = whole.begin() + matrix * static_cast<std::int64_t>(kElements);
        return {begin, begin + static_cast<std::int64_t>(kElements)};
    }
    static std::string name(std::int64_t matrix) { return "experts." + std::to_string(matrix) + ".weight"; }

    TensorMerge whole(const Method& method, const ResolvedParameters& values) const {
        TensorMerge merge = tensorMerge(method, values, {kMatrices, kRows, kOwnColumns}, base, {first, second});
        for (std::int64_t i = 0; i < kMatrices; ++i)
            merge.parts.push_back({name(i), i, i * static_cast<std::int64_t>(kElements), {kRows, kOwnColumns}});
        return merge;
    }
    TensorMerge alone(std::int64_t matrix, const Method& method, const ResolvedParameters& values) const {
        TensorMerge merge = tensorMerge(method, values, {kRows, kOwnColumns}, part(base, matrix),
                                        {part(first, matrix), part(second, matrix)});
        merge.name = name(matrix);
        return merge;
    }
};

TEST(MergeTensors, MergesTheMatricesOfATensorAsTensorsOfTheirOwn) {
    const Stacked stacked;
    for (const Method* method : {&tiesMethod(), &dareTiesMethod(), &dellaMethod(), &modelStockMethod(), &sceMethod()}) {
        ResolvedParameters values = parameters(*method, {1, 0.5});
        for (const ParameterSpec& spec : method->info().parameters)
            if (spec.name == "density") setPerInput(*method, values, "density", {0.5, 0.3});
        MemorySink sink;
        std::vector<TensorMerge> tensors = listOf(stacked.whole(*method, values));
        for (std::int64_t i = 0; i < Stacked::kMatrices; ++i) tensors.push_back(stacked.alone(i, *method, values));
        run(tensors, {}, sink);

        const Floats got = sink.values<float>(0);
        for (std::int64_t i = 0; i < Stacked::kMatrices; ++i)
            EXPECT_EQ(bitsOf(Stacked::part(got, i)), bitsOf(sink.values<float>(static_cast<std::size_t>(i) + 1)))
                << method->info().name << " " << i;
    }
}

TEST(MergeTensors, RelaxesTheMatricesOfATensorOneByOne) {
    const Stacked stacked;
    const ResolvedParameters values = parameters(taskArithmeticMethod(), {1, 0.5});
    for (const bool scales : {false, true}) {
        MemorySink sink;
        std::vector<TensorMerge> tensors = listOf(stacked.whole(taskArithmeticMethod(), values));
        for (std::int64_t i = 0; i < Stacked::kMatrices; ++i)
            tensors.push_back(stacked.alone(i, taskArithmeticMethod(), values));
        ChannelImportance& whole = tensors[0].importance.emplace();
        whole.layout = ChannelLayout::of({Stacked::kRows, Stacked::kOwnColumns}, -1);
        whole.layout.matrices = Stacked::kMatrices;
        for (std::int64_t i = 0; i < Stacked::kMatrices; ++i) {
            Floats importance = normalValues(Stacked::kOwnColumns, 20 + static_cast<std::uint64_t>(i), 0.3f);
            for (float& a : importance) a = std::min(std::abs(a), 1.0f);
            whole.values.insert(whole.values.end(), importance.begin(), importance.end());
            tensors[static_cast<std::size_t>(i) + 1].importance =
                ChannelImportance{importance, ChannelLayout::of({Stacked::kRows, Stacked::kOwnColumns}, -1)};
        }
        for (TensorMerge& tensor : tensors) tensor.scalesWhole = scales;
        run(tensors, {0.3}, sink);

        const Floats got = sink.values<float>(0);
        for (std::int64_t i = 0; i < Stacked::kMatrices; ++i)
            EXPECT_EQ(bitsOf(Stacked::part(got, i)), bitsOf(sink.values<float>(static_cast<std::size_t>(i) + 1))) << i;
    }
}

}  // namespace
}  // namespace aimerge
