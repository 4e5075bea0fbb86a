#include "aimerge/architecture/model_config.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

ModelConfig parse(const Json& config) {
    return parseModelConfig(config, "m/config.json");
}

TEST(ModelConfig, ReadsTheStyleOfTransformers4) {
    const Json config = Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "rope_scaling": {"type": "linear", "factor": 2.0}, "tie_word_embeddings": true, "attention_bias": true, "mlp_bias": true,
        "hidden_act": "gelu", "torch_dtype": "bfloat16"})");

    const ModelConfig result = parse(config);

    EXPECT_EQ(result.architecture, "LlamaForCausalLM");
    EXPECT_EQ(result.modelType, "llama");
    EXPECT_EQ(result.hiddenSize, 4096);
    EXPECT_EQ(result.intermediateSize, 11008);
    EXPECT_EQ(result.layers, 32);
    EXPECT_EQ(result.heads, 32);
    EXPECT_EQ(result.keyValueHeads, 8);
    EXPECT_EQ(result.headDim, 128);
    EXPECT_EQ(result.vocabSize, 32000);
    EXPECT_EQ(result.maxPositions, 4096);
    EXPECT_EQ(result.rmsNormEps, 1e-5);
    EXPECT_EQ(result.ropeTheta, 500000.0);
    EXPECT_EQ(result.rope.type, "linear");
    EXPECT_TRUE(result.tieWordEmbeddings);
    EXPECT_TRUE(result.attentionBias);
    EXPECT_TRUE(result.mlpBias);
    EXPECT_EQ(result.activation, "gelu");
    EXPECT_EQ(result.dtype, Dtype::BF16);
    EXPECT_FALSE(result.quantized);
}

TEST(ModelConfig, ReadsTheStyleOfTransformers5) {
    Json config = TinyLlama().config;
    config.erase("torch_dtype");
    config["dtype"] = "float16";
    config["rope_parameters"] = {{"rope_theta", 123.0}, {"rope_type", "llama3"}};

    const ModelConfig result = parse(config);

    EXPECT_EQ(result.dtype, Dtype::F16);
    EXPECT_EQ(result.ropeTheta, 123.0);
    EXPECT_EQ(result.rope.type, "llama3");
}

TEST(ModelConfig, TakesTheOlderStyleOfRopeAloneWhereBothAreWritten) {
    Json config = TinyLlama().config;
    config["rope_theta"] = 123.0;
    config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
    config["rope_parameters"] = {{"rope_theta", 456.0}, {"rope_type", "default"}, {"beta_fast", 7.0}};

    const ModelConfig result = parse(config);

    EXPECT_EQ(result.ropeTheta, 123.0);
    EXPECT_EQ(result.rope.type, "linear");
    EXPECT_EQ(result.rope.factor, 4.0);
    EXPECT_NE(result.rope.betaFast, 7.0);

    config["rope_scaling"] = Json::object();
    EXPECT_EQ(parse(config).ropeTheta, 456.0);
    EXPECT_EQ(parse(config).rope.type, "default");
}

TEST(ModelConfig, FillsInLlamasDefaults) {
    Json config = TinyLlama().config;
    for (const char* key : {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings", "torch_dtype"}) config.erase(key);
    config["rope_scaling"] = nullptr;
    config["head_dim"] = nullptr;

    const ModelConfig result = parse(config);

    EXPECT_EQ(result.keyValueHeads, 2);
    EXPECT_EQ(result.headDim, 2);
    EXPECT_EQ(result.maxPositions, 2048);
    EXPECT_EQ(result.rmsNormEps, 1e-6);
    EXPECT_EQ(result.ropeTheta, 10000.0);
    EXPECT_EQ(result.rope.type, "default");
    EXPECT_FALSE(result.tieWordEmbeddings);
    EXPECT_EQ(result.activation, "silu");
    EXPECT_FALSE(result.dtype.has_value());
}

TEST(ModelConfig, TakesTheHeadDimensionThatIsWritten) {
    Json config = TinyLlama().config;
    config["head_dim"] = 16;

    EXPECT_EQ(parse(config).headDim, 16);
}

Json sized(const std::string& modelType, Json more = Json::object()) {
    Json config = Json::parse(R"({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
                                  "num_attention_heads": 4, "vocab_size": 100})");
    config["model_type"] = modelType;
    config.update(more);
    return config;
}

TEST(ModelConfig, FillsInTheDefaultsOfEachType) {
    EXPECT_EQ(parse(sized("llama")).headDim, 16);
    EXPECT_EQ(parse(sized("qwen3")).headDim, 128);
    EXPECT_EQ(parse(sized("phi3")).rmsNormEps, 1e-5);
    EXPECT_FALSE(parse(sized("qwen2")).tieWordEmbeddings);
    EXPECT_TRUE(parse(sized("gpt2")).tieWordEmbeddings);
    EXPECT_FALSE(parse(sized("gpt2", {{"tie_word_embeddings", false}})).tieWordEmbeddings);
    EXPECT_TRUE(parse(sized("llava", {{"text_config", {{"tie_word_embeddings", true}}}})).tieWordEmbeddings);
    EXPECT_FALSE(parse(sized("gpt")).tieWordEmbeddings);  // a part of a name is none

    const ModelConfig gemma = parse(sized("gemma2"));
    EXPECT_TRUE(gemma.tieWordEmbeddings);
    EXPECT_EQ(gemma.headDim, 256);
    EXPECT_EQ(gemma.activation, "gelu_pytorch_tanh");
    EXPECT_EQ(gemma.attentionScalar, 256);
    EXPECT_EQ(gemma.attentionSoftcap, 50);
    EXPECT_EQ(gemma.logitSoftcap, 30);
    EXPECT_EQ(parse(sized("gemma2", {{"final_logit_softcapping", nullptr}})).logitSoftcap, 0);
}

TEST(ModelConfig, KnowsWhichLayersSeeAWindow) {
    using Windows = std::vector<std::int64_t>;
    EXPECT_EQ(parse(sized("llama", {{"sliding_window", 8}})).windows, Windows{});
    EXPECT_EQ(parse(sized("mistral")).windows, Windows(4, 4096));
    EXPECT_EQ(parse(sized("mistral", {{"sliding_window", nullptr}})).windows, Windows{});
    EXPECT_EQ(parse(sized("phi3", {{"sliding_window", 7}})).windows, Windows(4, 7));
    EXPECT_EQ(parse(sized("gemma2", {{"sliding_window", 7}})).windows, (Windows{7, 0, 7, 0}));
    EXPECT_EQ(parse(sized("qwen2", {{"sliding_window", 7}})).windows, Windows{});
    const Json used{{"sliding_window", 7}, {"use_sliding_window", true}, {"max_window_layers", 3}};
    EXPECT_EQ(parse(sized("qwen2", used)).windows, (Windows{0, 0, 0, 7}));
    Json listed = used;
    listed["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
    EXPECT_EQ(parse(sized("qwen3", listed)).windows, (Windows{7, 0, 0, 7}));
}

TEST(ModelConfig, RecordsQuantisation) {
    Json config = TinyLlama().config;
    config["quantization_config"] = {{"quant_method", "gptq"}};
    EXPECT_TRUE(parse(config).quantized);

    config["quantization_config"] = nullptr;
    EXPECT_FALSE(parse(config).quantized);
}

TEST(ModelConfig, LeavesUnknownNumbersOfOtherArchitecturesAtZero) {
    const ModelConfig result =
        parse(Json::parse(R"({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 12,
        "vocab_size": 50257, "num_attention_heads": [1, 2]})"));

    EXPECT_EQ(result.layers, 0);
    EXPECT_EQ(result.heads, 0);
    EXPECT_EQ(result.headDim, 0);
    EXPECT_EQ(result.vocabSize, 50257);
}

TEST(ModelConfig, NamesTheKeyThatIsWrong) {
    const struct {
        std::string key;
        Json value;
        std::string message;
    } rows[] = {
        {"hidden_size", "4096", "hidden_size is \"4096\", expected a whole number of at least 1"},
        {"hidden_size", 0, "hidden_size is 0"},
        {"hidden_size", nullptr, "hidden_size is missing"},
        {"intermediate_size", 8.5, "intermediate_size is 8.5"},
        {"num_hidden_layers", -2, "num_hidden_layers is -2"},
        {"num_hidden_layers", 4294967296, "num_hidden_layers is 4294967296"},
        {"num_attention_heads", true, "num_attention_heads is true"},
        {"vocab_size", 18446744073709551615u, "vocab_size is 18446744073709551615"},
        {"num_key_value_heads", "1", "num_key_value_heads is \"1\""},
        {"head_dim", {16}, "head_dim is [16]"},
        {"rms_norm_eps", 0.0, "rms_norm_eps is 0.0, expected a number above 0"},
        {"rms_norm_eps", "1e-5", "rms_norm_eps is \"1e-5\""},
        {"rope_theta", -1.0, "rope_theta is -1.0"},
        {"rope_scaling", "linear", "rope_scaling is \"linear\", expected an object"},
        {"rope_scaling", {{"rope_type", 3}}, "rope_scaling.rope_type is 3, expected a string"},
        {"rope_parameters", {{"rope_theta", "x"}}, "rope_parameters.rope_theta is \"x\""},
        {"tie_word_embeddings", "yes", "tie_word_embeddings is \"yes\", expected true or false"},
        {"tie_word_embeddings", 1, "tie_word_embeddings is 1, expected true or false"},
        {"hidden_act", 1, "hidden_act is 1, expected a string"},
        {"torch_dtype", "float12", "torch_dtype is \"float12\", expected a torch dtype"},
        {"architectures", "LlamaForCausalLM", "architectures is \"LlamaForCausalLM\", expected a list"},
        {"architectures", {1}, "architectures is [1], expected a list"},
        {"model_type", 1, "model_type is 1, expected a string"},
    };
    for (const auto& row : rows) {
        Json config = TinyLlama().config;
        config[row.key] = row.value;

        EXPECT_THAT(messageOf<InputError>([&] { parse(config); }),
                    AllOf(StartsWith("m/config.json: "), HasSubstr(row.message)))
            << row.key;
    }
}

TEST(ModelConfig, RefusesWhatIsNoModelsConfig) {
    EXPECT_THAT(messageOf<InputError>([] { parse(Json::object()); }), HasSubstr("neither architectures nor model_type"));
    EXPECT_THAT(messageOf<InputError>([] { parse(Json::array()); }), HasSubstr("expected a JSON object"));
}

}  // namespace
}  // namespace aimerge
