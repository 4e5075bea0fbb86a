#include "aimerge/checkpoint/forward_identity.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

/// A small config of the type with `changes`; null takes a key away.
Json configOf(const std::string& type, const Json& changes = Json::object()) {
    Json config = {{"architectures", {"SomeForCausalLM"}},
                   {"model_type", type},
                   {"hidden_size", 64},
                   {"intermediate_size", 128},
                   {"num_hidden_layers", 2},
                   {"num_attention_heads", 4},
                   {"vocab_size", 160}};
    for (const auto& [key, value] : changes.items()) {
        config.erase(key);
        if (!value.is_null()) config[key] = value;
    }
    return config;
}

/// Key and values in which the configs differ, or "".
std::string differenceText(const Json& first, const Json& second) {
    const auto difference = forwardDifference(first, second);
    EXPECT_EQ(difference.has_value(), forwardIdentity(first) != forwardIdentity(second));
    return difference ? difference->key + ": " + difference->first + ", " + difference->second : "";
}

TEST(ForwardIdentity, BothStylesOfRopeAreEqual) {
    const Json llama3 = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 8192}};
    Json older = llama3, newer = llama3;
    newer["rope_theta"] = 500000.0;
    EXPECT_EQ(differenceText(configOf("llama", {{"rope_theta", 500000.0}, {"rope_scaling", older}}),
                             configOf("llama", {{"rope_parameters", newer}})),
              "");
    EXPECT_EQ(differenceText(configOf("llama", {{"rope_theta", 10000}}),
                             configOf("llama", {{"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}})),
              "");
    EXPECT_EQ(differenceText(configOf("qwen2", {{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}}),
                             configOf("qwen2", {{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2.0}}}})),
              "");
}

TEST(ForwardIdentity, WhatIsAbsentHasItsDefault) {
    EXPECT_EQ(differenceText(configOf("llama"), configOf("llama", {{"rms_norm_eps", 1e-6},
                                                                   {"num_key_value_heads", 4},
                                                                   {"head_dim", 16},
                                                                   {"hidden_act", "silu"},
                                                                   {"attention_bias", false},
                                                                   {"max_position_embeddings", 2048},
                                                                   {"sliding_window", 4}})),
              "");
    EXPECT_EQ(differenceText(configOf("qwen2"), configOf("qwen2", {{"use_sliding_window", false}, {"sliding_window", 8}})),
              "");
    EXPECT_EQ(differenceText(configOf("gemma2"), configOf("gemma2", {{"attn_logit_softcapping", 50.0}, {"head_dim", 256}})),
              "");
    EXPECT_EQ(differenceText(configOf("mistral"), configOf("mistral", {{"sliding_window", 4096}})), "");
}

TEST(ForwardIdentity, KeysThatSayNothingAboutTheForwardPassDoNotCount) {
    const Json silent = {{"dtype", "float16"},
                         {"torch_dtype", "float32"},
                         {"transformers_version", "5.0.0"},
                         {"_name_or_path", "elsewhere"},
                         {"architectures", {"OtherForCausalLM"}},
                         {"use_cache", false},
                         {"eos_token_id", 7},
                         {"tokenizer_class", "T"},
                         {"id2label", {{"0", "LABEL_0"}}},
                         {"attention_dropout", 0.5},
                         {"initializer_range", 0.5},
                         {"tie_word_embeddings", true},
                         {"output_attentions", true},
                         {"_attn_implementation", "eager"}};
    for (const char* type : {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "granite", "mixtral"})
        EXPECT_EQ(differenceText(configOf(type), configOf(type, silent)), "") << type;

    const Json within = {{"model_type", "x"}, {"text_config", {{"depth", 2}, {"dtype", "float16"}, {"pad_token_id", 1}}}};
    const Json without = {{"model_type", "x"}, {"text_config", {{"depth", 2.0}}}};
    EXPECT_EQ(differenceText(within, without), "");
}

TEST(ForwardIdentity, NamesTheFirstKeyThatDiffers) {
    const std::vector<std::tuple<Json, Json, const char*>> cases{
        {configOf("llama"), configOf("llama", {{"rope_theta", 20000}}),
         "rope_parameters (rope_scaling).rope_theta: 10000.0, 20000.0"},
        {configOf("llama"),
         configOf("llama", {{"rope_parameters",
                             {{"rope_type", "yarn"},
                              {"rope_theta", 10000.0},
                              {"factor", 8.0},
                              {"original_max_position_embeddings", 16}}}}),
         "rope_parameters (rope_scaling).rope_type: \"default\", \"yarn\""},
        {configOf("llama"), configOf("granite", {{"embedding_multiplier", 12}}), "model_type: \"llama\", \"granite\""},
        {configOf("llama"), configOf("llama", {{"rms_norm_eps", 1e-5}}), "rms_norm_eps: 1e-06, 1e-05"},
        {configOf("mistral"), configOf("mistral", {{"sliding_window", 8}}), "sliding_window: [4096,4096], [8,8]"},
        {configOf("gemma2"), configOf("gemma2", {{"query_pre_attn_scalar", 64}}), "query_pre_attn_scalar: 256.0, 64.0"},
        {configOf("qwen3"), configOf("qwen3", {{"num_key_value_heads", 2}}), "num_key_value_heads: 4, 2"},
        {configOf("granite", {{"embedding_multiplier", 12}}), configOf("granite", {{"embedding_multiplier", 6.5}}),
         "embedding_multiplier: 12, 6.5"},
        {configOf("granite", {{"embedding_multiplier", 12}}), configOf("granite"), "embedding_multiplier: 12, absent"},
        {Json{{"model_type", "x"}, {"text_config", {{"rope", {{"factor", 1}}}}}},
         Json{{"model_type", "x"}, {"text_config", {{"rope", {{"factor", 2}}}}}}, "text_config.rope.factor: 1, 2"},
    };
    for (const auto& [first, second, text] : cases) EXPECT_EQ(differenceText(first, second), text);
}

TEST(ForwardIdentity, StatesWhatBothConfigsHave) {
    const auto text = [](const Json& first, const Json& second) {
        std::string all;
        for (const ForwardDifference& difference : statedDifferences(configOf("x", first), configOf("x", second)))
            all += difference.key + " " + difference.first + " " + difference.second + "; ";
        return all;
    };
    EXPECT_EQ(
        text({{"multiplier", 2}, {"cap", nullptr}, {"only", 1}, {"dtype", "float16"}}, {{"multiplier", 2.0}, {"cap", 5}}),
        "");
    EXPECT_EQ(text({{"vision", {{"depth", 2}}}, {"cap", 4.5}}, {{"vision", {{"depth", 3}}}, {"cap", 5}}),
              "cap 4.5 5; vision.depth 2 3; ");

    // rope_theta and rope_scaling are the rope_parameters of layers of one kind, or of full attention.
    const Json older = {
        {"rope_theta", 1e6}, {"rope_local_base_freq", 1e4}, {"rope_scaling", {{"type", "linear"}, {"factor", 8}}}};
    const auto kinds = [](double factor) {
        return Json{{"rope_parameters",
                     {{"full_attention", {{"rope_type", "linear"}, {"rope_theta", 1e6}, {"factor", factor}}},
                      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}};
    };
    EXPECT_EQ(text(older, kinds(8)), "");
    EXPECT_EQ(text(older, kinds(4)), "rope_parameters.full_attention.factor 8 4; ");
    EXPECT_EQ(text(older, {{"rope_parameters", {{"rope_type", "linear"}, {"rope_theta", 5e5}, {"factor", 8}}}}),
              "rope_parameters.rope_theta 1000000 500000; ");
    EXPECT_EQ(text({{"rope_theta", 1e6}, {"rope_scaling", nullptr}}, {{"rope_parameters", {{"rope_theta", 1e6}}}}), "");
}

TEST(ForwardIdentity, LongropeGoesByItsLengthsWhereThereIsNoFactor) {
    const auto config = [](std::int64_t positions, const Json& more) {
        Json rope = {{"type", "longrope"}, {"short_factor", {1, 1}}, {"long_factor", {2, 2}}};
        rope.update(more);
        return configOf(
            "phi3",
            {{"max_position_embeddings", positions}, {"original_max_position_embeddings", 4096}, {"rope_scaling", rope}});
    };
    EXPECT_EQ(differenceText(config(8192, Json::object()), config(16384, Json::object())),
              "rope_parameters (rope_scaling).max_position_embeddings: 8192, 16384");
    EXPECT_EQ(differenceText(config(8192, {{"factor", 4}}), config(16384, {{"factor", 4.0}})), "");
}

TEST(ForwardIdentity, LongValuesAreCut) {
    const Json one = configOf("x", {{"kinds", std::vector<int>(1000, 1)}}), other = configOf("x");
    const auto difference = forwardDifference(one, other);
    ASSERT_TRUE(difference);
    EXPECT_EQ(difference->key, "kinds");
    EXPECT_LT(difference->first.size(), 100u);
    EXPECT_THAT(difference->first, testing::EndsWith("..."));
}

TEST(ForwardIdentity, OfNoConfigIsAnError) {
    EXPECT_THAT(messageOf<InputError>([] { forwardIdentity(Json::object()); }),
                HasSubstr("neither architectures nor model_type"));
    EXPECT_THAT(messageOf<InputError>([] {
                    forwardIdentity(configOf("llama", {{"hidden_size", "wide"}}));
                }),
                HasSubstr("hidden_size is \"wide\""));
}

}  // namespace
}  // namespace aimerge
