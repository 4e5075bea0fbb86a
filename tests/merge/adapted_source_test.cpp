#include "merge/sources/adapted_source.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/adapted_weights.h"
#include "aimerge/merge/instruction_set.h"
#include "merge/memory_parameter.h"
#include "support/expect_error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

/// A base with one tensor, and an adapter with the factors of one module.
class OneAdapted {
public:
    OneAdapted(const std::string& parameter, const TensorInfo& form, const std::string& bytes,
               const nlohmann::ordered_json& config)
        : parameter_(parameter) {
        writeBytes(folder_ / "base/config.json", R"({"architectures": ["Any"], "model_type": "any"})");
        SafetensorsBuilder()
            .add(parameter, std::string(safetensorsName(form.dtype)), form.shape, bytes)
            .write(folder_ / "base/model.safetensors");
        nlohmann::ordered_json whole = {{"peft_type", "LORA"}};
        whole.update(config);
        writeBytes(folder_ / "adapter/adapter_config.json", whole.dump());
    }

    void open(const SafetensorsBuilder& weights) {
        weights.write(folder_ / "adapter/adapter_model.safetensors");
        model_ = Checkpoint::openOver((folder_ / "base").string(), (folder_ / "adapter").string());
    }

    InputView view() const { return {&*model_, model_->find(parameter_)}; }
    std::shared_ptr<const TensorSource> source() const { return directSource(view()); }

    /// What AdaptedWeights gives, elements [first, first + count).
    template <typename Element>
    std::vector<Element> weights(std::size_t first, std::size_t count) const {
        std::vector<Element> elements(count);
        AdaptedWeights(*model_).read(*view().tensor, first * sizeof(Element), std::as_writable_bytes(std::span(elements)));
        return elements;
    }

private:
    TempFolder folder_;
    std::string parameter_;
    std::optional<Checkpoint> model_;
};

TensorInfo form(Dtype dtype, const Shape& shape) {
    TensorInfo info;
    info.dtype = dtype;
    info.shape = shape;
    return info;
}

TEST(AdaptedSource, AddsTheScaledProductOfTheFactors) {
    OneAdapted model("x.weight", form(Dtype::BF16, {2, 3}),
                     bytesOf<std::uint16_t>({0x3F80, 0x3F80, 0x3F80, 0, 0, 0}),  // 1 1 1 0 0 0
                     {{"r", 2}, {"lora_alpha", 1}});                             // scaling 1/2
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {2, 3}, bytesOf<float>({1, 2, 3, 4, 5, 6}))
                   .add("base_model.model.x.lora_B.weight", "BF16", {2, 2},
                        bytesOf<std::uint16_t>({0x3F80, 0, 0x3F80, 0x4000})));  // 1 0 / 1 2

    // B A = 1 2 3 / 9 12 15
    EXPECT_THAT(valuesOf(*model.source(), 0, 6), ElementsAre(1.5f, 2, 2.5f, 4.5f, 6, 7.5f));
    EXPECT_THAT(valuesOf(*model.source(), 2, 3), ElementsAre(2.5f, 4.5f, 6));
}

TEST(AdaptedSource, TransposesForEmbeddingsAndLayersThatStoreInByOut) {
    const std::string weights = bytesOf<float>({0, 0, 0, 0, 0, 0});
    const std::string a = bytesOf<float>({1, 2, 3}), b = bytesOf<float>({10, 100});
    OneAdapted embedding("x.weight", form(Dtype::F32, {3, 2}), weights, {{"r", 1}, {"lora_alpha", 1}});
    embedding.open(SafetensorsBuilder()
                       .add("base_model.model.x.lora_embedding_A", "F32", {1, 3}, a)
                       .add("base_model.model.x.lora_embedding_B", "F32", {2, 1}, b));
    OneAdapted layer("x.weight", form(Dtype::F32, {3, 2}), weights, {{"r", 1}, {"lora_alpha", 1}, {"fan_in_fan_out", true}});
    layer.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {1, 3}, a)
                   .add("base_model.model.x.lora_B.weight", "F32", {2, 1}, b));

    for (const OneAdapted* model : {&embedding, &layer})
        EXPECT_THAT(valuesOf(*model->source(), 0, 6), ElementsAre(10, 100, 20, 200, 30, 300));
}

/// W = 3 0 / 0 0, B A = 0 0 / 6 8, magnitudes 6 and 5: the rows of the sum have norms 3 and 10. Or all of it transposed.
struct DoraOfTwo : OneAdapted {
    explicit DoraOfTwo(bool transposed)
        : OneAdapted("x.weight", form(Dtype::F32, {2, 2}), bytesOf<float>({3, 0, 0, 0}),
                     {{"r", 1}, {"lora_alpha", 1}, {"use_dora", true}, {"fan_in_fan_out", transposed}}) {
        open(SafetensorsBuilder()
                 .add("base_model.model.x.lora_A.weight", "F32", {1, 2}, bytesOf<float>({3, 4}))
                 .add("base_model.model.x.lora_B.weight", "F32", {2, 1}, bytesOf<float>({0, 2}))
                 .add("base_model.model.x.lora_magnitude_vector", "F32", {2}, bytesOf<float>({6, 5})));
    }
};

TEST(AdaptedSource, DoraGivesEachOutputItsMagnitude) {
    const DoraOfTwo rows(false), columns(true);
    EXPECT_THAT(valuesOf(*rows.source(), 0, 4), ElementsAre(6, 0, 3, 4));
    EXPECT_THAT(valuesOf(*columns.source(), 0, 4), ElementsAre(6, 3, 0, 4));
    EXPECT_THAT(valuesOf(*rows.source(), 1, 2), ElementsAre(0, 3));
    EXPECT_THAT(valuesOf(*columns.source(), 1, 2), ElementsAre(3, 0));
}

TEST(AdaptedSource, FusedExpertsHaveTheFactorsOfEach) {
    OneAdapted model("m.experts.down_proj", form(Dtype::F32, {2, 1, 2}), bytesOf<float>({0, 0, 0, 0}),
                     {{"r", 2}, {"lora_alpha", 2}, {"target_modules", {"q"}}, {"target_parameters", {"experts.down_proj"}}});
    model.open(SafetensorsBuilder()
                   // Rows of A: both of the first expert, then both of the second. Columns of B: the first of each expert.
                   .add("base_model.model.m.experts.lora_A.weight", "F32", {4, 2}, bytesOf<float>({1, 0, 0, 1, 1, 0, 0, 1}))
                   .add("base_model.model.m.experts.lora_B.weight", "F32", {1, 4}, bytesOf<float>({1, 2, 3, 4})));

    EXPECT_THAT(valuesOf(*model.source(), 0, 4), ElementsAre(1, 3, 2, 4));
    EXPECT_THAT(valuesOf(*model.source(), 1, 2), ElementsAre(3, 2));
}

TEST(AdaptedSource, RowsOfTokensTakeThePlaceOfTheBases) {
    OneAdapted model("x.weight", form(Dtype::BF16, {4, 2}), bytesOf(std::vector<std::uint16_t>(8, 0x3F80)),
                     {{"trainable_token_indices", {3, 1}}});
    model.open(SafetensorsBuilder().add("base_model.model.x.token_adapter.trainable_tokens_delta", "F32", {2, 2},
                                        bytesOf<float>({30, 31, 10, 11})));

    EXPECT_THAT(valuesOf(*model.source(), 0, 8), ElementsAre(1, 1, 10, 11, 1, 1, 30, 31));
    EXPECT_THAT(valuesOf(*model.source(), 3, 4), ElementsAre(11, 1, 1, 30));
}

TEST(AdaptedSource, NamesAFactorThatIsNotFinite) {
    OneAdapted model("x.weight", form(Dtype::F32, {1, 1}), bytesOf<float>({0}), {{"r", 1}});
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {1, 1}, bytesOf<float>({std::nanf("")}))
                   .add("base_model.model.x.lora_B.weight", "F32", {1, 1}, bytesOf<float>({1})));

    EXPECT_THAT(messageOf<InputError>([&] { model.source(); }),
                AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("x.lora_A.weight")));
}

TEST(AdaptedSource, NamesAWeightThatIsNotFinite) {
    OneAdapted model("x.weight", form(Dtype::F32, {1, 2}), bytesOf<float>({0, std::nanf("")}), {{"r", 1}});
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {1, 2}, bytesOf<float>({1, 1}))
                   .add("base_model.model.x.lora_B.weight", "F32", {1, 1}, bytesOf<float>({1})));

    EXPECT_THAT(messageOf<InputError>([&] { valuesOf(*model.source(), 0, 2); }), HasSubstr("x.weight is nan at element 1;"));
}

/// x + (2^-9, 3 2^-9), where x is one element of the base for each.
template <typename Element>
std::vector<Element> changedWeights(Dtype dtype, const std::vector<Element>& base, float factor = 0x1p-9f) {
    OneAdapted model("x.weight", form(dtype, {1, 2}), bytesOf<Element>(base), {{"r", 1}, {"lora_alpha", 1}});
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {1, 2}, bytesOf<float>({1, 3}))
                   .add("base_model.model.x.lora_B.weight", "F32", {1, 1}, bytesOf<float>({factor})));
    EXPECT_EQ(model.weights<Element>(1, 1)[0], model.weights<Element>(0, 2)[1]);
    return model.weights<Element>(0, 2);
}

TEST(AdaptedWeights, AreRoundedToTheDtypeOfTheBase) {
    EXPECT_THAT(changedWeights<std::uint16_t>(Dtype::BF16, {0x3F80, 0x3F80}), ElementsAre(0x3F80, 0x3F81));  // steps of 2^-7
    EXPECT_THAT(changedWeights<float>(Dtype::F32, {1, 1}), ElementsAre(1 + 0x1p-9f, 1 + 3 * 0x1p-9f));
    EXPECT_THAT(changedWeights<double>(Dtype::F64, {1, 1}), ElementsAre(1 + 0x1p-9, 1 + 3 * 0x1p-9));
}

TEST(AdaptedWeights, NameASumBeyondTheRangeOfTheBase) {
    EXPECT_THAT(messageOf<InputError>([] {
                    changedWeights<std::uint16_t>(Dtype::F16, {0x7BFF, 0x7BFF}, 1e4f);
                }),
                AllOf(HasSubstr("x.weight"), HasSubstr("float16")));
}

/// Sizes around the tiles: rows and columns of 1, a prime, a tile and one more; ranks that are and are not multiples of
/// four.
class AdaptedShapes : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, std::int64_t>> {};

TEST_P(AdaptedShapes, EveryStretchHasTheBitsOfTheFormula) {
    const auto [rows, columns, rank] = GetParam();
    const auto m = static_cast<std::size_t>(rows), n = static_cast<std::size_t>(columns), r = static_cast<std::size_t>(rank);
    const Floats w = normalValues(m * n, 1, 1), a = normalValues(r * n, 2, 1), b = normalValues(m * r, 3, 1);
    OneAdapted model("x.weight", form(Dtype::F32, {rows, columns}), bytesOf(w), {{"r", rank}, {"lora_alpha", 3}});
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {rank, columns}, bytesOf(a))
                   .add("base_model.model.x.lora_B.weight", "F32", {rows, rank}, bytesOf(b)));
    const auto scaling = static_cast<float>(3.0 / static_cast<double>(rank));
    Floats wanted(m * n);
    for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
            float sum = 0;
            for (std::size_t k = 0; k < r; ++k) sum = std::fma(b[i * r + k], a[k * n + j], sum);
            wanted[i * n + j] = w[i * n + j] + scaling * sum;
        }
    }
    const auto source = model.source();

    for (const auto set : {InstructionSet::Baseline, InstructionSet::Avx2, InstructionSet::Avx512}) {
        limitInstructionSet(set);
        EXPECT_EQ(bitsOf(valuesOf(*source, 0, m * n)), bitsOf(wanted));
    }
    for (const std::size_t step : {std::size_t{1} + n / 2, n + 3, 2 * n, 7 * n + 1}) {
        Floats inSteps;
        for (std::size_t at = 0; at < m * n; at += step) {
            const Floats part = valuesOf(*source, static_cast<std::int64_t>(at), std::min(step, m * n - at));
            inSteps.insert(inSteps.end(), part.begin(), part.end());
        }
        EXPECT_EQ(bitsOf(inSteps), bitsOf(wanted)) << "in steps of " << step;
    }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdaptedShapes,
                         testing::Combine(testing::Values(1, 4, 13), testing::Values(1, 17, 512, 513),
                                          testing::Values(1, 3, 4, 16, 17)));

TEST(AdaptedSource, MergesAsTheSameExpertWrittenOutInFloat32) {
    OneAdapted model("x.weight", form(Dtype::BF16, {13, 300}), bytesOf(std::vector<std::uint16_t>(3900, 0x3F81)),
                     {{"r", 3}});
    model.open(SafetensorsBuilder()
                   .add("base_model.model.x.lora_A.weight", "F32", {3, 300}, bytesOf(normalValues(900, 4, 0.1f)))
                   .add("base_model.model.x.lora_B.weight", "F32", {13, 3}, bytesOf(normalValues(39, 5, 0.1f))));
    const auto written = std::make_shared<MemorySource>("written out", valuesOf(*model.source(), 0, 3900));
    const auto merged = [&](std::shared_ptr<const TensorSource> expert, int threadCount) {
        const Method& method = findMethod("linear", {});
        TensorMerge merge;
        merge.name = "x.weight";
        merge.shape = {13, 300};
        merge.dtype = Dtype::F32;
        merge.method = &method;
        merge.parameters = parameters(method, {0.7});
        merge.inputs = {expert};
        ThreadPool threads(threadCount);
        MemorySink sink;
        mergeTensors({&merge, 1}, {}, DeltaRounding::None, threads, sink);
        return bitsOf(sink.values<float>(0));
    };

    EXPECT_EQ(merged(model.source(), 1), merged(written, 1));
    EXPECT_EQ(merged(model.source(), 3), merged(written, 1));
}

}  // namespace
}  // namespace aimerge
