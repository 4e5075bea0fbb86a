#include "aimerge/core/error.h"
#include "aimerge/model/decoder.h"
#include "model/golden_model.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <functional>

namespace aimerge {
namespace {

using testing::HasSubstr;

struct BadModel {
    const char* name;
    std::function<void(EditableModel&)> spoil;
    std::vector<std::string> message;
};

void PrintTo(const BadModel& bad, std::ostream* out) {
    *out << bad.name;
}

const BadModel kBadModels[] = {
    {"OtherModelType",
     [](EditableModel& model) {
         model.config["architectures"] = {"BloomForCausalLM"};
         model.config["model_type"] = "bloom";
     },
     {"model_type is \"bloom\"", "llama, mistral"}},
    {"OtherRope",
     [](EditableModel& model) {
         model.config["rope_parameters"] = {{"rope_theta", 10000.0}, {"rope_type", "hyper"}, {"factor", 8.0}};
     },
     {"rope_type is \"hyper\"", "llama3"}},
    {"OtherActivation",
     [](EditableModel& model) { model.config["hidden_act"] = "gelu"; },
     {"hidden_act is \"gelu\"", "silu"}},
    {"TooFewPositions",
     [](EditableModel& model) { model.config["max_position_embeddings"] = 3; },
     {"max_position_embeddings is 3", "4 tokens"}},
    {"HeadsNotSharedEvenly",
     [](EditableModel& model) { model.config["num_key_value_heads"] = 3; },
     {"num_attention_heads 4", "num_key_value_heads 3"}},
    {"MissingLayer",
     [](EditableModel& model) { model.config["num_hidden_layers"] = 4; },
     {"model.layers.3.input_layernorm.weight is missing"}},
    {"MissingTensor",
     [](EditableModel& model) { model.tensors.erase("model.layers.1.mlp.up_proj.weight"); },
     {"model.layers.1.mlp.up_proj.weight is missing"}},
    {"MissingFinalNorm",
     [](EditableModel& model) { model.tensors.erase("model.norm.weight"); },
     {"model.norm.weight is missing"}},
    {"WrongShape",
     [](EditableModel& model) { model.config["intermediate_size"] = 161; },
     {"model.layers.0.mlp.gate_proj.weight has shape [160, 64]", "[161, 64]"}},
    {"IntegerWeights",
     [](EditableModel& model) {
         model.tensors["model.norm.weight"] = {"I32", {64}, bytesOf(std::vector<std::int32_t>(64, 1))};
     },
     {"model.norm.weight is I32"}},
    {"MissingEmbedding",
     [](EditableModel& model) { model.tensors.erase("model.embed_tokens.weight"); },
     {"model.embed_tokens.weight is missing"}},
};

class BadModelTest : public testing::TestWithParam<BadModel> {};

TEST_P(BadModelTest, IsRejectedNamingModelAndFault) {
    const TempFolder folder;
    EditableModel model("family_f32/base");
    GetParam().spoil(model);
    model.write(folder / "bad");

    try {
        const Checkpoint checkpoint = Checkpoint::open((folder / "bad").string());
        const Decoder decoder(checkpoint, Dtype::F32, 4);
        at::Tensor hidden = decoder.emptyHidden(1, 4);
        decoder.embed(std::vector<std::int32_t>{1, 2, 3, 4}, hidden);
        for (std::int64_t layer = 0; layer < decoder.layers(); ++layer) decoder.loadLayer(layer);
        decoder.loadFinalNorm();
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr((folder / "bad").string()));
        for (const std::string& part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
    }
}

INSTANTIATE_TEST_SUITE_P(Models, BadModelTest, testing::ValuesIn(kBadModels),
                         [](const auto& info) { return std::string(info.param.name); });

class BadTokenId : public testing::TestWithParam<std::int32_t> {};

TEST_P(BadTokenId, IsOutsideTheVocabulary) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());
    const Decoder decoder(checkpoint, Dtype::BF16, 4);
    at::Tensor hidden = decoder.emptyHidden(1, 2);

    try {
        decoder.embed(std::vector<std::int32_t>{1, GetParam()}, hidden);
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr(fmt::format("token id {} is outside the vocabulary of 320", GetParam())));
    }
}

INSTANTIATE_TEST_SUITE_P(Ids, BadTokenId, testing::Values(-1, 320, 1 << 30));

TEST(Decoder, ComputesInFloat32OrBf16Only) {
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());

    EXPECT_THROW(Decoder(checkpoint, Dtype::F16, 4), UsageError);
}

}  // namespace
}  // namespace aimerge
