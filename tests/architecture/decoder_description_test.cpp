#include "aimerge/architecture/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

using testing::ElementsAre;
using Json = nlohmann::ordered_json;

DecoderDescription describe(const std::string& modelType, Json more = Json::object()) {
    Json config = Json::parse(R"({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
                                  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 100})");
    config["model_type"] = modelType;
    config.update(more);
    const ModelConfig parsed = parseModelConfig(config, "m/config.json");
    EXPECT_TRUE(parsed.decoder.has_value()) << parsed.whyNotRun;
    return *parsed.decoder;
}

std::vector<std::string> firstModules(const DecoderDescription& decoder, std::int64_t layer) {
    std::vector<std::string> names;
    const auto inputs = static_cast<std::int64_t>(decoder.layers[static_cast<std::size_t>(layer)].inputs().size());
    for (std::int64_t number = 0; number < inputs; ++number) names.push_back(decoder.modulesAt({layer, number}).front());
    return names;
}

TEST(DecoderDescription, QueryKeyAndValueShareTheirInput) {
    EXPECT_THAT(describe("llama").modulesAt({2, 1}),
                ElementsAre("model.layers.2.self_attn.q_proj", "model.layers.2.self_attn.k_proj",
                            "model.layers.2.self_attn.v_proj"));
}

TEST(DecoderDescription, GateAndUpShareTheirInput) {
    EXPECT_THAT(describe("llama").modulesAt({0, 4}),
                ElementsAre("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"));
}

TEST(DecoderDescription, FinalNormAndHeadAreOutsideTheLayers) {
    EXPECT_THAT(describe("llama").modulesAt(kFinalNormInput), ElementsAre("model.norm"));
    EXPECT_THAT(describe("llama").modulesAt(kHeadInput), ElementsAre("lm_head"));
    EXPECT_TRUE(describe("llama").isNormAt(kFinalNormInput));
    EXPECT_FALSE(describe("llama").isNormAt(kHeadInput));
}

TEST(DecoderDescription, InputsStandInTheOrderInWhichSequencesComeToThem) {
    const std::string layer = "model.layers.1.";
    EXPECT_THAT(firstModules(describe("gemma3_text"), 1),
                ElementsAre(layer + "input_layernorm", layer + "self_attn.q_proj", layer + "self_attn.q_norm",
                            layer + "self_attn.k_norm", layer + "self_attn.o_proj", layer + "post_attention_layernorm",
                            layer + "pre_feedforward_layernorm", layer + "mlp.gate_proj", layer + "mlp.down_proj",
                            layer + "post_feedforward_layernorm"));
    EXPECT_THAT(firstModules(describe("cohere2"), 1),
                ElementsAre(layer + "input_layernorm", layer + "self_attn.q_proj", layer + "self_attn.o_proj",
                            layer + "mlp.gate_proj", layer + "mlp.down_proj"));
}

TEST(DecoderDescription, CountsWhatALayerTakes) {
    const DecoderDescription llama = describe("llama");
    // 2 norms of 64; q and o 64 x 64, k and v 32 x 64; gate, up and down 128 x 64.
    EXPECT_EQ(llama.mostOfLayer(&LayerDescription::parameters), 2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64);
    // What enters two norms, attention and the MLP; query, key, value and what they became; gate and up.
    EXPECT_EQ(llama.mostOfLayer(&LayerDescription::keptPerToken), 4 * 64 + (64 + 32 + 32) + 64 + 2 * 128);
    EXPECT_EQ(llama.mostOfLayer(&LayerDescription::widestWork), 2 * 64 + 2 * 128);
    EXPECT_EQ(llama.mostOfLayer(&LayerDescription::widestState), 2 * (64 + 32));
    EXPECT_EQ(describe("cohere").mostOfLayer(&LayerDescription::widestState), 2 * (64 + 32) + 64);
}

TEST(DecoderDescription, TakesTheNamesOfACheckpoint) {
    DecoderDescription decoder = describe("gpt2", {{"n_embd", 64}, {"n_layer", 2}, {"n_head", 4}});
    EXPECT_EQ(decoder.positions->name, "transformer.wpe.weight");

    decoder.takeNames("h.", "wte.weight", "");

    EXPECT_EQ(decoder.modulesAt({1, 0}).front(), "h.1.ln_1");
    EXPECT_EQ(decoder.embedding, "wte.weight");
    EXPECT_EQ(decoder.finalNorm.name, "ln_f");
    EXPECT_EQ(decoder.positions->name, "wpe.weight");
    EXPECT_EQ(decoder.head, "lm_head");
}

TEST(DecoderDescription, OfAWrapperIsThatOfItsText) {
    Json text = Json::parse(R"({"model_type": "mistral", "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
                                "num_attention_heads": 4, "vocab_size": 10, "sliding_window": null})");
    const ModelConfig parsed = parseModelConfig({{"model_type", "mistral3"}, {"text_config", text}}, "m/config.json");
    ASSERT_TRUE(parsed.decoder.has_value()) << parsed.whyNotRun;
    EXPECT_EQ(parsed.hiddenSize, 32);
    EXPECT_EQ(parsed.layers, 2);
    EXPECT_EQ(parsed.decoder->layers.size(), 2u);

    text["model_type"] = "pixtral";
    const ModelConfig other = parseModelConfig({{"model_type", "mistral3"}, {"text_config", text}}, "m/config.json");
    EXPECT_FALSE(other.decoder.has_value());
    EXPECT_THAT(other.whyNotRun, testing::HasSubstr("text_config.model_type is \"pixtral\""));
    EXPECT_EQ(other.hiddenSize, 0);
}

/// As Google wrote the config.json of gemma-3-4b-it: what has transformers' default is left out.
TEST(DecoderDescription, SizesThatAreLeftOutAreTransformersDefaults) {
    const Json text = Json::parse(R"({"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                                      "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                                      "sliding_window": 1024})");
    const ModelConfig parsed = parseModelConfig({{"model_type", "gemma3"}, {"text_config", text}}, "m/config.json");

    ASSERT_TRUE(parsed.decoder.has_value()) << parsed.whyNotRun;
    EXPECT_EQ(parsed.vocabSize, 262208);
    const auto attention = std::get<AttentionDescription>(parsed.decoder->layers[0].blocks[1]);
    EXPECT_EQ(attention.projections[0].shape, (std::vector<std::int64_t>{8 * 256, 2560}));
    EXPECT_EQ(attention.projections[1].shape, (std::vector<std::int64_t>{4 * 256, 2560}));
    EXPECT_EQ(attention.window, 1024);
    EXPECT_EQ(parsed.decoder->rotations[0].scaling.factor, 8);
    EXPECT_EQ(parsed.decoder->rotations[0].theta, 1e6);
    EXPECT_EQ(parsed.decoder->rotations[1].scaling.type, "default");
}

TEST(DecoderDescription, LayersDifferAsTheConfigSays) {
    const DecoderDescription decoder = describe("gemma3_text", {{"num_hidden_layers", 6}, {"sliding_window", 8}});
    const auto attentionOf = [&](std::size_t layer) {
        return std::get<AttentionDescription>(decoder.layers[layer].blocks[1]);
    };
    EXPECT_EQ(attentionOf(0).window, 8);
    EXPECT_EQ(decoder.rotations[*attentionOf(0).rotation].theta, 1e4);
    EXPECT_EQ(attentionOf(5).window, 0);
    EXPECT_EQ(decoder.rotations[*attentionOf(5).rotation].theta, 1e6);

    const Json pattern{{"sliding_window_pattern", "LLLG"},
                       {"layer_types", {"sliding_attention", "full_attention", "full_attention", "full_attention"}}};
    EXPECT_EQ(std::get<AttentionDescription>(describe("exaone4", pattern).layers[0].blocks[0]).window, 4096);
    EXPECT_EQ(std::get<AttentionDescription>(describe("exaone4", pattern).layers[2].blocks[0]).window, 0);

    const DecoderDescription smol = describe("smollm3", {{"no_rope_layers", {1, 0, 1, 1}}});
    EXPECT_FALSE(std::get<AttentionDescription>(smol.layers[1].blocks[1]).rotation.has_value());
    EXPECT_TRUE(std::get<AttentionDescription>(smol.layers[2].blocks[1]).rotation.has_value());
}

TEST(DecoderDescription, NumbersOfAnActivationFunctionAreModulesWithoutAnInput) {
    const std::string layer = "model.layers.1.";
    const DecoderDescription decoder =
        describe("apertus", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 1e6}}}});
    EXPECT_THAT(firstModules(decoder, 1),
                ElementsAre(layer + "attention_layernorm", layer + "self_attn.q_proj", layer + "self_attn.q_norm",
                            layer + "self_attn.k_norm", layer + "self_attn.o_proj", layer + "feedforward_layernorm",
                            layer + "mlp.up_proj", layer + "mlp.down_proj"));
    const std::vector<ModuleDescription> modules = decoder.layers[1].modules();
    EXPECT_EQ(modules.back().name, "mlp.act_fn.eps");
    EXPECT_TRUE(modules.back().isNumber);
    EXPECT_EQ(modules.back().elements(), 1);
}

TEST(DecoderDescription, EveryHeadMayHaveANormOfItsOwn) {
    const std::string attention = "model.layers.0.self_attn.";
    const DecoderDescription decoder = describe("stablelm", {{"use_parallel_residual", true}, {"qk_layernorm", true}});
    EXPECT_THAT(
        firstModules(decoder, 0),
        ElementsAre("model.layers.0.input_layernorm", attention + "q_proj", attention + "q_layernorm.norms.0",
                    attention + "q_layernorm.norms.1", attention + "q_layernorm.norms.2", attention + "q_layernorm.norms.3",
                    attention + "k_layernorm.norms.0", attention + "k_layernorm.norms.1", attention + "o_proj",
                    "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.down_proj"));
}

TEST(DecoderDescription, WhatItDoesNotRunIsNamed) {
    const struct {
        const char* modelType;
        Json more;
        std::string message;
    } rows[] = {
        {"cohere", {{"use_qk_norm", true}}, "use_qk_norm is true"},
        {"opt", {{"do_layer_norm_before", false}, {"ffn_dim", 8}}, "do_layer_norm_before is false"},
        {"apertus", Json::object(), "rope_parameters is missing"},
        {"arcee", {{"hidden_act", "xielu"}}, "hidden_act is \"xielu\""},
        {"gptj", {{"n_embd", 64}, {"n_head", 4}, {"n_layer", 4}, {"rotary_dim", 32}}, "rotary_dim is 32"},
        {"gptj", {{"n_embd", 64}, {"n_head", 4}, {"n_layer", 4}, {"rotary_dim", nullptr}}, "rotary_dim is null"},
        {"gpt_bigcode", {{"n_embd", 64}, {"n_head", 4}, {"n_layer", 4}, {"multi_query", false}}, "multi_query is false"},
        {"falcon", {{"alibi", true}}, "alibi is true"},
        {"falcon", {{"multi_query", false}}, "multi_query is false"},
        {"granite", {{"hidden_act", "relu"}}, "hidden_act is \"relu\""},
        {"gemma3_text", {{"use_bidirectional_attention", true}}, "use_bidirectional_attention is true"},
        {"olmo3",
         {{"layer_types", {"full_attention", "chunked_attention", "full_attention", "full_attention"}}},
         "layer_types is \"chunked_attention\""},
        {"granite", {{"num_key_value_heads", 3}}, "num_key_value_heads 3"},
        {"olmo2", {{"partial_rotary_factor", 0.5}}, "partial_rotary_factor is 0.5"},
        {"granite", {{"quantization_config", Json::object()}}, "quantization_config"},
        {"granite", {{"residual_multiplier", "x"}}, "residual_multiplier is \"x\""},
    };
    for (const auto& row : rows) {
        Json config = Json::parse(R"({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
                                      "num_attention_heads": 4, "vocab_size": 100})");
        config["model_type"] = row.modelType;
        config.update(row.more);

        const ModelConfig parsed = parseModelConfig(config, "m/config.json");

        EXPECT_FALSE(parsed.decoder.has_value()) << row.message;
        EXPECT_THAT(parsed.whyNotRun, testing::HasSubstr(row.message));
        EXPECT_THAT(parsed.whyNotRun, testing::StartsWith("m/config.json"));
    }
}

}  // namespace
}  // namespace aimerge
