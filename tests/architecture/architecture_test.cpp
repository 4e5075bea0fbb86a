#include "aimerge/architecture/architecture.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Tensor {
    std::string name;
    Shape shape;
};

Architecture architectureOf(const std::string& config, const std::vector<Tensor>& tensors) {
    std::vector<TensorInfo> infos;
    for (const Tensor& tensor : tensors) infos.push_back({tensor.name, Dtype::F32, tensor.shape, 0, {}});
    return Architecture(Json::parse(config), infos);
}

/// One tensor for each layer.
std::vector<Tensor> layersNamed(const std::string& prefix, std::int64_t count,
                                const Tensor& tensor = {"mlp.up_proj.weight", {8, 4}}) {
    std::vector<Tensor> tensors;
    for (std::int64_t layer = 0; layer < count; ++layer)
        tensors.push_back({prefix + std::to_string(layer) + "." + tensor.name, tensor.shape});
    return tensors;
}

std::vector<Tensor> joined(std::vector<Tensor> a, const std::vector<Tensor>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

Architecture llama(std::int64_t layers = 12) {
    return architectureOf(
        R"({"model_type": "llama", "num_hidden_layers": )" + std::to_string(layers) +
            R"(, "vocab_size": 10, "hidden_size": 4})",
        joined(layersNamed("model.layers.", layers),
               {{"model.embed_tokens.weight", {10, 4}}, {"model.norm.weight", {4}}, {"lm_head.weight", {10, 4}}}));
}

TEST(Architecture, SaysWhereATensorStands) {
    const Architecture architecture = llama(13);
    const struct {
        std::string name;
        Part part;
        std::int64_t layer;
    } rows[] = {
        {"model.embed_tokens.weight", Part::BeforeLayers, -1},
        {"model.layers.0.input_layernorm.weight", Part::Layer, 0},
        {"model.layers.12.mlp.up_proj.weight", Part::Layer, 12},
        {"model.norm.weight", Part::BehindLayers, -1},
        {"lm_head.weight", Part::BehindLayers, -1},
        {"score.weight", Part::BehindLayers, -1},
        {"model.layers.weight", Part::Aside, -1},
        {"model.layers.x.weight", Part::Aside, -1},
        {"model.layers.01.weight", Part::Aside, -1},
        {"model.layers.99999999999999999999.weight", Part::Aside, -1},
        {"model.layers.3", Part::Aside, -1},
        {"other.model.layers.3.weight", Part::Aside, -1},
        {"multi_modal_projector.linear_1.weight", Part::Aside, -1},
        {"", Part::Aside, -1},
    };
    for (const auto& row : rows) {
        EXPECT_EQ(architecture.placeOf(row.name).part, row.part) << row.name;
        EXPECT_EQ(architecture.placeOf(row.name).layer, row.layer) << row.name;
    }
}

TEST(Architecture, OrdersLayersByNumber) {
    const std::vector<std::string> expected = {"model.embed_tokens.weight",
                                               "model.layers.2.a.weight",
                                               "model.layers.2.b.weight",
                                               "model.layers.10.a.weight",
                                               "model.norm.weight",
                                               "lm_head.weight",
                                               "a.weight",
                                               "z.weight"};
    std::vector<std::string> names = expected;
    std::ranges::sort(names);

    llama().sortInModelOrder(names, [](const std::string& name) { return std::string_view(name); });

    EXPECT_EQ(names, expected);
}

TEST(Architecture, FindsTheCountOfLayersUnderItsNames) {
    struct Row {
        const char *config, *prefix, *path;
    };
    for (const Row& row :
         {Row{R"({"model_type": "gpt2", "n_layer": 3})", "transformer.h.", "/n_layer"},
          {R"({"model_type": "mpt", "n_layers": 3})", "transformer.blocks.", "/n_layers"},
          {R"({"model_type": "x", "num_layers": 3})", "model.decoder.layers.", "/num_layers"},
          {R"({"model_type": "gemma3", "text_config": {"num_hidden_layers": 3}, "vision_config": {"num_hidden_layers": 9}})",
           "language_model.model.layers.", "/text_config/num_hidden_layers"},
          {R"({"model_type": "internvl", "llm_config": {"num_hidden_layers": 3}})", "language_model.model.layers.",
           "/llm_config/num_hidden_layers"}}) {
        const Architecture architecture = architectureOf(row.config, layersNamed(row.prefix, 3));
        ASSERT_EQ(architecture.stacks().size(), 1u) << row.config;
        EXPECT_EQ(architecture.stacks()[0].prefix, row.prefix);
        EXPECT_EQ(architecture.layers(), 3);
        EXPECT_THAT(architecture.stacks()[0].countPaths, ElementsAre(row.path));
    }
}

TEST(Architecture, TellsTheStacksOfAMultimodalModelApart) {
    const Architecture architecture = architectureOf(
        R"({"model_type": "gemma3", "text_config": {"num_hidden_layers": 2, "vocab_size": 10}, "vision_config": {"num_hidden_layers": 2}})",
        joined(joined(layersNamed("model.vision_tower.encoder.layers.", 2, {"mlp.fc1.weight", {99, 99}}),
                      layersNamed("model.language_model.layers.", 2)),
               {{"model.language_model.embed_tokens.weight", {10, 4}},
                {"model.language_model.norm.weight", {4}},
                {"lm_head.weight", {10, 4}},
                {"model.vision_tower.post_layernorm.weight", {4}},
                {"model.multi_modal_projector.linear.weight", {4, 4}}}));

    ASSERT_EQ(architecture.stacks().size(), 2u);
    EXPECT_EQ(architecture.stacks()[0].name, "text_decoder");
    EXPECT_EQ(architecture.stacks()[1].name, "vision_tower");
    EXPECT_EQ(architecture.stacks()[1].countPaths, std::vector<std::string>{"/vision_config/num_hidden_layers"});
    EXPECT_EQ(architecture.embedding(), "model.language_model.embed_tokens.weight");
    EXPECT_EQ(architecture.placeOf("model.language_model.norm.weight").stack, 0u);
    EXPECT_EQ(architecture.placeOf("lm_head.weight").stack, 0u);
    EXPECT_EQ(architecture.placeOf("model.vision_tower.post_layernorm.weight").stack, 1u);
    EXPECT_EQ(architecture.placeOf("model.multi_modal_projector.linear.weight").part, Part::Aside);
}

TEST(Architecture, CountsLayersForMultiTokenPredictionApart) {
    const Architecture architecture =
        architectureOf(R"({"model_type": "deepseek_v3", "num_hidden_layers": 2, "num_nextn_predict_layers": 1})",
                       layersNamed("model.layers.", 3));

    EXPECT_EQ(architecture.layers(), 2);
    EXPECT_EQ(architecture.stacks()[0].predictionLayers, 1);
    EXPECT_EQ(architecture.placeOf("model.layers.2.eh_proj.weight").part, Part::Prediction);
    EXPECT_EQ(architecture.placeOf("model.layers.2.eh_proj.weight").layer, 0);
    EXPECT_EQ(architecture.placeOf("model.layers.1.mlp.up_proj.weight").part, Part::Layer);
}

TEST(Architecture, KnowsWhatATensorIsFor) {
    const Architecture architecture = architectureOf(
        R"({"model_type": "qwen3_moe", "num_hidden_layers": 1, "vocab_size": 10, "hidden_size": 4, "num_experts": 3, "num_experts_per_tok": 1})",
        {{"model.embed_tokens.weight", {10, 4}}, {"model.layers.0.mlp.gate.weight", {3, 4}}, {"lm_head.weight", {10, 4}}});
    struct Row {
        const char* name;
        Shape shape;
        Role role;
        bool hasVocabularyRows = false;
        std::int64_t expert = -1;
    };
    for (const Row& row : {Row{"model.embed_tokens.weight", {10, 4}, Role::Embedding, true},
                           {"lm_head.weight", {10, 4}, Role::Head, true},
                           {"lm_head.bias", {10}, Role::Bias, true},
                           {"final_logits_bias", {1, 10}, Role::Bias, true},
                           {"transformer.wpe.weight", {64, 4}, Role::Lookup},
                           {"bert.embeddings.token_type_embeddings.weight", {2, 4}, Role::Lookup},
                           {"model.layers.0.self_attn.q_proj.weight", {4, 4}, Role::Linear},
                           {"model.layers.0.self_attn.q_proj.bias", {4}, Role::Bias},
                           {"model.layers.0.self_attn.q_norm.weight", {2, 2}, Role::Norm},
                           {"model.layers.0.input_layernorm.weight", {4}, Role::Norm},
                           {"transformer.h.0.ln_1.weight", {4}, Role::Norm},
                           {"model.layers.0.mlp.gate.weight", {3, 4}, Role::Router},
                           {"model.layers.0.mlp.gate.e_score_correction_bias", {3}, Role::Bias},
                           {"model.layers.0.mlp.experts.2.down_proj.weight", {4, 2}, Role::Linear, false, 2},
                           {"model.layers.0.mlp.experts.gate_up_proj", {3, 4, 4}, Role::Experts},
                           {"model.layers.0.mlp.shared_expert.up_proj.weight", {4, 4}, Role::Linear},
                           {"model.layers.0.linear_attn.conv1d.weight", {4, 1, 4}, Role::Convolution},
                           {"vision.patch_embedding.weight", {4, 3, 14, 14}, Role::Convolution},
                           {"model.layers.0.linear_attn.A_log", {4}, Role::Other},
                           {"model.layers.0.self_attn.rotary_emb.inv_freq", {4}, Role::Buffer},
                           {"h.0.attn.bias", {1, 1, 8, 8}, Role::Buffer}}) {
        const Parameter parameter = architecture.describe(row.name, row.shape);
        EXPECT_EQ(roleName(parameter.role), roleName(row.role)) << row.name;
        EXPECT_EQ(parameter.hasVocabularyRows, row.hasVocabularyRows) << row.name;
        EXPECT_EQ(parameter.expert, row.expert) << row.name;
    }
    EXPECT_EQ(architecture.routerOf("model.layers.0.mlp.experts.2.down_proj"), "model.layers.0.mlp.gate");
    EXPECT_EQ(architecture.routerOf("model.layers.0.self_attn.q_proj"), "");
    EXPECT_EQ(moduleOf("model.layers.0.mlp.up_proj.weight"), "model.layers.0.mlp.up_proj");
    EXPECT_EQ(moduleOf("model.layers.0.mlp.experts.gate_up_proj"), "model.layers.0.mlp.experts.gate_up_proj");
}

TEST(Architecture, KnowsWhichAxisTheInputIs) {
    const auto axis = [](const char* config, const char* name, const Shape& shape) {
        const Parameter parameter =
            architectureOf(config,
                           layersNamed(std::string(name).starts_with("transformer") ? "transformer.h." : "model.layers.", 1))
                .describe(name, shape);
        return parameter.inputAxisIsKnown ? parameter.inputAxis : 0;
    };
    EXPECT_EQ(axis(R"({"model_type": "gpt2", "n_layer": 1})", "transformer.h.0.attn.c_proj.weight", {4, 4}), -2);
    EXPECT_EQ(axis(R"({"model_type": "gpt_bigcode", "n_layer": 1})", "transformer.h.0.attn.c_proj.weight", {4, 4}), -1);
    EXPECT_EQ(axis(R"({"model_type": "gpt_oss", "num_hidden_layers": 1, "num_local_experts": 2, "hidden_size": 4})",
                   "model.layers.0.mlp.experts.down_proj", {2, 4, 4}),
              -2);
    // The shape tells it for types that are not known, where it can.
    const char* unknown = R"({"model_type": "new", "num_hidden_layers": 1, "num_experts": 2, "hidden_size": 4})";
    EXPECT_EQ(axis(unknown, "model.layers.0.mlp.experts.gate_up_proj", {2, 6, 4}), -1);
    EXPECT_EQ(axis(unknown, "model.layers.0.mlp.experts.gate_up_proj", {2, 4, 6}), -2);
    EXPECT_EQ(axis(unknown, "model.layers.0.mlp.experts.down_proj", {2, 4, 3}), -1);
    EXPECT_EQ(axis(unknown, "model.layers.0.mlp.experts.down_proj", {2, 4, 4}), 0);
}

TEST(Architecture, NamesThePartsOfFusedExpertsAsSeparateOnes) {
    const Architecture architecture =
        architectureOf(R"({"model_type": "qwen3_moe", "num_hidden_layers": 1, "num_experts": 2, "hidden_size": 3})",
                       layersNamed("model.layers.", 1));

    const auto parts = architecture.partsOf("model.layers.0.mlp.experts.gate_up_proj", {2, 4, 3});

    ASSERT_EQ(parts.size(), 4u);
    EXPECT_EQ(parts[3].name, "model.layers.0.mlp.experts.1.up_proj.weight");
    EXPECT_EQ(parts[3].first, 18);
    EXPECT_EQ(parts[3].shape, (Shape{2, 3}));
    EXPECT_EQ(parts[3].expert, 1);
    EXPECT_THAT(architecture.partsOf("model.layers.0.mlp.up_proj.weight", {4, 3}), IsEmpty());
}

TEST(Architecture, FindsModulesWithOneInput) {
    const Architecture architecture = llama();
    EXPECT_EQ(architecture.moduleWithSameInput("model.layers.3.self_attn.v_proj"), "model.layers.3.self_attn.q_proj");
    EXPECT_EQ(architecture.moduleWithSameInput("model.layers.3.mlp.up_proj"), "model.layers.3.mlp.gate_proj");
    EXPECT_EQ(architecture.moduleWithSameInput("model.layers.3.mlp.down_proj"), "model.layers.3.mlp.down_proj");
    EXPECT_EQ(architecture.moduleWithSameInput("lm_head"), "lm_head");
}

std::string whyNot(const Architecture& architecture, const std::vector<std::int64_t>& layers) {
    std::vector<LayerSource> from;
    for (const std::int64_t layer : layers) from.push_back({&architecture, layer});
    return architecture.whyNotRenumbered(0, from);
}

TEST(Architecture, RenumbersLayersThatAreAlike) {
    EXPECT_EQ(whyNot(llama(3), {0, 1, 1, 2}), "");
}

TEST(Architecture, RefusesToRenumberLayersWhoseKindGoesByTheirNumber) {
    EXPECT_THAT(
        whyNot(architectureOf(R"({"model_type": "llama4_text", "num_hidden_layers": 3})", layersNamed("model.layers.", 3)),
               {0, 1, 1, 2}),
        HasSubstr("Llama 4"));
    EXPECT_THAT(
        whyNot(architectureOf(R"({"model_type": "gemma3n_text", "num_hidden_layers": 3, "hidden_size_per_layer_input": 8})",
                              layersNamed("model.layers.", 3)),
               {0, 1, 1, 2}),
        HasSubstr("embed_tokens_per_layer"));
    const std::vector<Tensor> mixed{{"model.layers.0.mamba.in_proj.weight", {4, 4}},
                                    {"model.layers.1.self_attn.q_proj.weight", {4, 4}},
                                    {"model.layers.2.mamba.in_proj.weight", {4, 4}}};
    EXPECT_THAT(whyNot(architectureOf(R"({"model_type": "new", "num_hidden_layers": 3})", mixed), {0, 1, 1, 2}),
                HasSubstr("layers 0 and 1"));
    // In their places they are what they were.
    EXPECT_EQ(whyNot(architectureOf(R"({"model_type": "new", "num_hidden_layers": 3})", mixed), {0, 1, 2}), "");
}

TEST(Architecture, RenumbersKindsThatAListTells) {
    const std::vector<Tensor> mixed{{"model.layers.0.mamba.in_proj.weight", {4, 4}},
                                    {"model.layers.1.self_attn.q_proj.weight", {4, 4}},
                                    {"model.layers.2.mamba.in_proj.weight", {4, 4}}};
    const Architecture architecture = architectureOf(
        R"({"model_type": "new", "num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"]})", mixed);
    EXPECT_EQ(whyNot(architecture, {0, 1, 1, 2}), "");
    ASSERT_EQ(architecture.stacks()[0].perLayer.size(), 1u);
    EXPECT_EQ(architecture.stacks()[0].perLayer[0].path, "/layer_types");
}

TEST(Architecture, KeepsLayersThatDifferAtTheBeginningThere) {
    const std::vector<Tensor> denseFirst{{"model.layers.0.mlp.up_proj.weight", {4, 4}},
                                         {"model.layers.1.mlp.gate.weight", {2, 4}},
                                         {"model.layers.2.mlp.gate.weight", {2, 4}}};
    const Architecture architecture =
        architectureOf(R"({"model_type": "deepseek_v3", "num_hidden_layers": 3, "first_k_dense_replace": 1})", denseFirst);
    EXPECT_EQ(whyNot(architecture, {0, 1, 1, 2}), "");
    EXPECT_THAT(whyNot(architecture, {0, 0, 1, 2}), HasSubstr("must stay the first"));
}

TEST(Architecture, WritesTheListThatGemma2Implies) {
    const Architecture architecture =
        architectureOf(R"({"model_type": "gemma2", "num_hidden_layers": 3})", layersNamed("model.layers.", 3));
    ASSERT_EQ(architecture.stacks()[0].perLayer.size(), 1u);
    EXPECT_EQ(architecture.stacks()[0].perLayer[0].values,
              (Json{"sliding_attention", "full_attention", "sliding_attention"}));
}

TEST(Architecture, SaysNothingOfLayersThatItDoesNotFind) {
    const Architecture architecture = architectureOf(R"({"model_type": "new"})", {{"w", {4, 4}}, {"b.3.x", {4}}});
    EXPECT_THAT(architecture.stacks(), IsEmpty());
    EXPECT_EQ(architecture.placeOf("w").part, Part::Aside);
    EXPECT_EQ(architecture.embedding(), "");
}

}  // namespace
}  // namespace aimerge
