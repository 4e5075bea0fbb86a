#include "aimerge/model/decoder.h"
#include "model/golden_model.h"
#include "support/temp_folder.h"
#include "support/test_device.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cctype>
#include <string>

namespace aimerge {
namespace {

std::vector<std::int32_t> narrowIds(const std::vector<std::int64_t>& ids) {
    return {ids.begin(), ids.end()};
}

/// Logits of all sequences in one batch, as float32.
at::Tensor logitsOf(const Checkpoint& checkpoint, Dtype dtype, const std::vector<std::int32_t>& ids,
                    std::int64_t sequences) {
    const c10::InferenceMode inference;
    const std::int64_t length = static_cast<std::int64_t>(ids.size()) / sequences;
    const Decoder decoder(checkpoint, dtype, length, testDevice());
    at::Tensor hidden = decoder.emptyHidden(sequences, length);
    decoder.embed(ids, hidden);
    for (std::int64_t layer = 0; layer < decoder.layers(); ++layer)
        decoder.runLayer(layer, decoder.loadLayer(layer), hidden, nullptr);
    return decoder.runHead(decoder.loadHead(), decoder.runFinalNorm(decoder.loadFinalNorm(), hidden, nullptr))
        .to(at::kFloat)
        .cpu();
}

void expectClose(const at::Tensor& got, const std::vector<float>& golden, double atol, double rtol) {
    ASSERT_EQ(got.numel(), static_cast<std::int64_t>(golden.size()));
    const at::Tensor contiguous = got.contiguous();
    const float* values = contiguous.const_data_ptr<float>();
    for (std::size_t i = 0; i < golden.size(); ++i)
        ASSERT_NEAR(values[i], golden[i], atol + rtol * std::abs(golden[i])) << "element " << i;
}

struct GoldenLogits {
    const char *model, *file;
    std::int64_t sequences;
};

class DecoderAgainstTransformers : public testing::TestWithParam<GoldenLogits> {};

TEST_P(DecoderAgainstTransformers, GivesTheLogitsInFloat32) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath(GetParam().model).string());
    const auto ids = narrowIds(readGolden<std::int64_t>(GetParam().file, Dtype::I64).at("input_ids"));

    const at::Tensor logits = logitsOf(checkpoint, Dtype::F32, ids, GetParam().sequences);

    // tolerance of the golden manifest
    expectClose(logits, readGolden<float>(GetParam().file, Dtype::F32).at("logits"), 2e-4, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Goldens, DecoderAgainstTransformers,
                         testing::Values(GoldenLogits{"family_f32/base", "calibration/logits_f32.safetensors", 8},
                                         GoldenLogits{"family_bf16/base", "calibration/logits_bf16_weights.safetensors", 2},
                                         GoldenLogits{"arch/llama3/base", "arch/llama3/logits.safetensors", 4},
                                         GoldenLogits{"arch/mistral/base", "arch/mistral/logits.safetensors", 4},
                                         GoldenLogits{"arch/qwen2/base", "arch/qwen2/logits.safetensors", 4},
                                         GoldenLogits{"arch/qwen3/base", "arch/qwen3/logits.safetensors", 4}),
                         [](const auto& info) {
                             std::string name = info.param.file;
                             std::ranges::replace_if(
                                 name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
                             return name;
                         });

TEST(Decoder, ComputesInBf16CloseToFloat32) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_bf16/base").string());
    const char* golden = "calibration/logits_bf16_weights.safetensors";
    const auto ids = narrowIds(readGolden<std::int64_t>(golden, Dtype::I64).at("input_ids"));

    const at::Tensor logits = logitsOf(checkpoint, Dtype::BF16, ids, 2);

    // A bf16 has 8 significant bits; some twenty roundings in a row leave about 2^-6 of the largest logit.
    const auto exact = readGolden<float>(golden, Dtype::F32).at("logits");
    const float largest =
        std::abs(*std::max_element(exact.begin(), exact.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));
    expectClose(logits, exact, largest / 64, 0);
}

TEST(Decoder, ASequenceDoesNotSeeItsNeighboursInTheBatch) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());
    const std::vector<std::int32_t> one{5, 6, 7, 8}, two{9, 10, 11, 12}, both{5, 6, 7, 8, 9, 10, 11, 12};

    const at::Tensor together = logitsOf(checkpoint, Dtype::F32, both, 2);

    EXPECT_TRUE(at::allclose(together.select(0, 0), logitsOf(checkpoint, Dtype::F32, one, 1).select(0, 0), 1e-5, 1e-5));
    EXPECT_TRUE(at::allclose(together.select(0, 1), logitsOf(checkpoint, Dtype::F32, two, 1).select(0, 0), 1e-5, 1e-5));
}

TEST(Decoder, ATokenDoesNotSeeThoseAfterIt) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());

    const at::Tensor first = logitsOf(checkpoint, Dtype::F32, {5, 6, 7, 8}, 1);
    const at::Tensor second = logitsOf(checkpoint, Dtype::F32, {5, 6, 7, 200}, 1);

    EXPECT_TRUE(at::equal(first.narrow(1, 0, 3), second.narrow(1, 0, 3)));
    EXPECT_FALSE(at::equal(first, second));
}

TEST(Decoder, ATiedHeadIsTheEmbedding) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    model.config["tie_word_embeddings"] = true;
    model.tensors.erase("lm_head.weight");
    model.write(folder / "tied");
    const Checkpoint checkpoint = Checkpoint::open((folder / "tied").string());
    const Decoder decoder(checkpoint, Dtype::F32, 4);

    const at::Tensor head = decoder.loadHead().weight;

    at::Tensor embedding = decoder.emptyHidden(1, decoder.config().vocabSize);
    std::vector<std::int32_t> everyToken(static_cast<std::size_t>(decoder.config().vocabSize));
    std::iota(everyToken.begin(), everyToken.end(), 0);
    decoder.embed(everyToken, embedding);
    EXPECT_TRUE(at::equal(head, embedding.select(0, 0)));
}

TEST(Decoder, ABiasInTheCheckpointIsAdded) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    const std::vector<float> bias(64, 0.5f);
    model.tensors["model.layers.2.mlp.down_proj.bias"] = {"F32", {64}, bytesOf(bias)};
    model.write(folder / "biased");
    const auto lastHidden = [](const std::string& name) {
        const c10::InferenceMode inference;
        const Checkpoint checkpoint = Checkpoint::open(name);
        const Decoder decoder(checkpoint, Dtype::F32, 3);
        at::Tensor hidden = decoder.emptyHidden(1, 3);
        decoder.embed(std::vector<std::int32_t>{1, 2, 3}, hidden);
        decoder.runLayer(2, decoder.loadLayer(2), hidden, nullptr);
        return hidden;
    };

    const at::Tensor with = lastHidden((folder / "biased").string());
    const at::Tensor without = lastHidden(goldenPath("family_f32/base").string());

    EXPECT_TRUE(at::allclose(with - without, at::full_like(with, 0.5f), 0, 1e-5));
}

TEST(Decoder, Float16AndFloat64WeightsAreConverted) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    model.tensors["model.norm.weight"] = {"F64", {64}, bytesOf(std::vector<double>(64, 1.5))};
    model.tensors["model.layers.0.input_layernorm.weight"] = {
        "F16", {64}, bytesOf(std::vector<std::uint16_t>(64, 0x3E00))};  // 1.5
    model.write(folder / "mixed");
    const Checkpoint checkpoint = Checkpoint::open((folder / "mixed").string());
    const Decoder decoder(checkpoint, Dtype::BF16, 4);

    const at::Tensor expected = at::full({64}, 1.5, at::kBFloat16);
    EXPECT_TRUE(at::equal(decoder.loadFinalNorm().weight, expected));
    EXPECT_TRUE(at::equal(decoder.loadLayer(0).front().weight, expected));
}

class RecordingObserver : public ActivationObserver {
public:
    void observe(const ModuleInput& where, const at::Tensor& input) override {
        seen.emplace_back(where.layer, where.number, input.size(-1));
        contiguous = contiguous && input.is_contiguous();
    }
    std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> seen;  // layer, number of the input, channels
    bool contiguous = true;
};

TEST(Decoder, ShowsTheObserverEveryInputInOrder) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());
    const Decoder decoder(checkpoint, Dtype::F32, 4);
    at::Tensor hidden = decoder.emptyHidden(2, 4);
    decoder.embed(std::vector<std::int32_t>(8, 3), hidden);
    RecordingObserver observer;

    decoder.runLayer(1, decoder.loadLayer(1), hidden, &observer);
    decoder.runFinalNorm(decoder.loadFinalNorm(), hidden, &observer);

    const decltype(observer.seen) expected{{1, 0, 64}, {1, 1, 64},  {1, 2, 64},  {1, 3, 64},
                                           {1, 4, 64}, {1, 5, 160}, {-1, 0, 64}, {-1, 1, 64}};
    EXPECT_EQ(observer.seen, expected);
    EXPECT_TRUE(observer.contiguous);
}

}  // namespace
}  // namespace aimerge
