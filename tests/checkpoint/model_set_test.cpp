#include "aimerge/checkpoint/model_set.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/temp_folder.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

MergeConfig configOf(const std::vector<std::string>& models, const std::string& base) {
    MergeConfig config;
    config.slices.push_back({.wholeModels = true});
    for (const std::string& model : models) config.slices[0].sources.push_back({model, {}, {}});
    config.baseModel = base;
    return config;
}

class ModelSetTest : public testing::Test {
protected:
    ModelSetTest() {
        for (const char* name : {"base", "a", "b"}) TinyLlama().write(folder_ / name);
    }
    std::string at(const std::string& name) const { return (folder_ / name).string(); }
    ModelSet open(const std::vector<std::string>& models, const std::string& base) const {
        std::vector<std::string> paths;
        for (const std::string& model : models) paths.push_back(at(model));
        return ModelSet::open(configOf(paths, base.empty() ? "" : at(base)));
    }
    /// The message when model "a" is changed and merged with the base.
    std::string refusal(const std::function<void(TinyLlama&)>& change) const {
        TinyLlama model;
        change(model);
        model.write(folder_ / "a");
        return messageOf<InputError>([&] { open({"a"}, "base"); });
    }
    TempFolder folder_;
};

TEST_F(ModelSetTest, AppendsABaseThatIsNotListed) {
    const ModelSet set = open({"b", "a"}, "base");

    ASSERT_EQ(set.models.size(), 3u);
    EXPECT_EQ(set.models[0].name(), at("b"));
    EXPECT_EQ(set.models[2].name(), at("base"));
    EXPECT_EQ(set.baseIndex, 2u);
    EXPECT_EQ(set.reference().name(), at("base"));
}

TEST_F(ModelSetTest, KeepsTheBaseWhereItIsListed) {
    const ModelSet set = open({"a", "base", "b"}, "base");

    EXPECT_EQ(set.models.size(), 3u);
    EXPECT_EQ(set.baseIndex, 1u);
}

TEST_F(ModelSetTest, TakesTheFirstModelAsReferenceWithoutABase) {
    const ModelSet set = open({"b", "a"}, "");

    EXPECT_EQ(set.models.size(), 2u);
    EXPECT_FALSE(set.baseIndex.has_value());
    EXPECT_EQ(set.reference().name(), at("b"));
}

TEST_F(ModelSetTest, OpensTheRealFamily) {
    const std::string family = std::string(AIMERGE_TEST_DATA) + "/goldens/family_bf16/";
    const LogCapture log;

    const ModelSet set =
        ModelSet::open(configOf({family + "expert_a", family + "expert_b", family + "expert_c"}, family + "base"));

    EXPECT_EQ(set.models.size(), 4u);
    EXPECT_TRUE(set.headIsWritten());
    EXPECT_THAT(log.text(), IsEmpty());
}

TEST_F(ModelSetTest, NamesModelKeyAndBothValuesOfAMisfit) {
    const struct {
        std::string key;
        nlohmann::ordered_json value;
        std::string message;
    } rows[] = {
        {"architectures", {"MistralForCausalLM"}, "architecture is MistralForCausalLM, but"},
        {"model_type", "llama2", "model_type is llama2, but"},
        {"num_hidden_layers", 4, "num_hidden_layers is 4, but"},
        {"hidden_size", 8, "hidden_size is 8, but"},
        {"intermediate_size", 12, "intermediate_size is 12, but"},
        {"num_attention_heads", 4, "num_attention_heads is 4, but"},
        {"num_key_value_heads", 2, "num_key_value_heads is 2, but"},
        {"head_dim", 1, "head_dim is 1, but"},
    };
    for (const auto& row : rows) {
        const std::string message = refusal([&](TinyLlama& model) { model.config[row.key] = row.value; });

        EXPECT_THAT(message, AllOf(HasSubstr(at("a") + ": " + row.message), HasSubstr(at("base") + " has "))) << row.key;
    }
}

TEST_F(ModelSetTest, RefusesAQuantisedModel) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    model.config["quantization_config"] = {{"bits", 4}};
                }),
                HasSubstr(at("a") + ": config.json has quantization_config {\"bits\":4}, but all tensors are F32"));
    EXPECT_THAT(
        refusal([](TinyLlama& model) {
            model.config["quantization_config"] = {{"bits", 4}};
            model.addFloats("model.layers.0.mlp.up_proj.qweight", {1, 4});
        }),
        AllOf(HasSubstr(at("a") + ": is quantised"), HasSubstr("up_proj.qweight is F32"), HasSubstr("BF16, F16 or F32")));
}

TEST_F(ModelSetTest, RefusesLayersThatConfigDoesNotHave) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    model.addFloats("model.layers.2.mlp.up_proj.weight", {8, 4});
                }),
                HasSubstr("has tensor model.layers.2.mlp.up_proj.weight, but config.json says num_hidden_layers 2"));
}

TEST_F(ModelSetTest, RefusesWeightsThatLackALayer) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    std::erase_if(model.tensors,
                                  [](const auto& tensor) { return tensor.first.starts_with("model.layers.0."); });
                }),
                HasSubstr("has no tensor of layer 0, but config.json says num_hidden_layers 2"));
}

TEST_F(ModelSetTest, RefusesAMissingHeadThatIsNotTied) {
    EXPECT_THAT(refusal([](TinyLlama& model) { model.tensors.erase("lm_head.weight"); }),
                HasSubstr("lm_head.weight is missing, and config.json does not tie it"));
}

TEST_F(ModelSetTest, WritesAHeadWhenAnyModelStoresOne) {
    TinyLlama tied;
    tied.config["tie_word_embeddings"] = true;
    tied.tensors.erase("lm_head.weight");
    tied.write(folder_ / "base");
    EXPECT_TRUE(open({"a"}, "base").headIsWritten());

    tied.write(folder_ / "a");
    EXPECT_FALSE(open({"a"}, "base").headIsWritten());
}

TEST_F(ModelSetTest, WarnsOfWhatTheMergeSurvives) {
    TinyLlama model;
    model.config["rope_theta"] = 1e6;
    model.config["rms_norm_eps"] = 1e-6;
    model.write(folder_ / "a");
    const LogCapture log;

    open({"a"}, "base");

    EXPECT_THAT(log.text(), AllOf(HasSubstr("rope_theta is 1000000"), HasSubstr("rms_norm_eps is 1e-06")));
}

/// The embedding of a TinyLlama and its head have the same values.
TEST_F(ModelSetTest, LeavesOutATiedHeadThatIsStoredASecondTime) {
    TinyLlama model;
    model.config["tie_word_embeddings"] = true;
    model.write(folder_ / "base");
    model.write(folder_ / "a");
    const LogCapture log;

    const ModelSet set = open({"a"}, "base");

    EXPECT_FALSE(set.headIsWritten());
    EXPECT_EQ(set.models[0].find("lm_head.weight"), nullptr);
    EXPECT_TRUE(set.models[0].modelConfig().tieWordEmbeddings);
    EXPECT_THAT(log.text(),
                AllOf(HasSubstr(at("a") + ": stores its head, which config.json ties to model.embed_tokens.weight"),
                      HasSubstr(at("base") + ": stores its head")));
}

TEST_F(ModelSetTest, KeepsATiedHeadThatDiffers) {
    TinyLlama model;
    model.config["tie_word_embeddings"] = true;
    model.write(folder_ / "base");
    model.tensors["lm_head.weight"].bytes.back() ^= 1;
    model.write(folder_ / "a");
    const LogCapture log;

    const ModelSet set = open({"a"}, "base");

    EXPECT_TRUE(set.headIsWritten());
    EXPECT_FALSE(set.models[0].modelConfig().tieWordEmbeddings);
    EXPECT_FALSE(isTied(set.models[0].config()));
    EXPECT_THAT(log.text(),
                HasSubstr(at("a") + ": config.json ties lm_head.weight to model.embed_tokens.weight, but the stored "
                                    "one differs"));
}

TEST_F(ModelSetTest, GoesByTensorsAndSizesWhereALabelIsAbsentOrOld) {
    const struct {
        std::string key;
        nlohmann::ordered_json value;
        std::string said;
    } rows[] = {{"architectures", nullptr, "architectures is absent, in "},
                {"architectures", nlohmann::ordered_json::array(), "architectures is absent, in "},
                {"architectures", {"LLaMAForCausalLM"}, "architectures is LLaMAForCausalLM, in "},
                {"model_type", nullptr, ""}};  // it is that of the class
    for (const auto& row : rows) {
        for (const char* changed : {"a", "base"}) {
            TinyLlama().write(folder_ / "a");
            TinyLlama().write(folder_ / "base");
            TinyLlama model;
            model.config[row.key] = row.value;
            model.write(folder_ / changed);
            const LogCapture log;

            const ModelSet set = open({"a"}, "base");

            EXPECT_EQ(set.models[0].modelConfig().modelType, "llama");
            EXPECT_THAT(log.text(), HasSubstr(changed == std::string("a") ? row.said : "")) << row.key;
        }
    }
}

TEST_F(ModelSetTest, RefusesOtherSizesWithoutALabel) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    model.config["architectures"] = nullptr;
                    model.config["hidden_size"] = 8;
                }),
                HasSubstr("hidden_size is 8, but"));
}

TEST_F(ModelSetTest, RecognisesCodesByWhatStandsBesideThem) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    model.tensors["model.layers.0.mlp.up_proj.weight"] = {"I8", {8, 4}, std::string(32, '\1')};
                    model.addFloats("model.layers.0.mlp.up_proj.SCB", {8});
                }),
                AllOf(HasSubstr(at("a") + ": is quantised (bitsandbytes, 8 bits)"),
                      HasSubstr("model.layers.0.mlp.up_proj.SCB"), HasSubstr("BF16, F16 or F32")));
}

TEST_F(ModelSetTest, SaysInOneLineWhatTheOutputTakesFromTheBase) {
    TinyLlama model;
    model.config["max_position_embeddings"] = 32768;
    model.config["eos_token_id"] = {2, 5};
    model.config["sliding_window"] = nullptr;
    model.write(folder_ / "a");
    writeBytes(folder_ / "a/generation_config.json",
               R"({"temperature": 0.6, "eos_token_id": [2], "transformers_version": "5"})");
    model.config["max_position_embeddings"] = 4096;
    model.config["eos_token_id"] = 2;
    model.config.erase("sliding_window");
    model.write(folder_ / "base");
    writeBytes(folder_ / "base/generation_config.json", R"({"eos_token_id": 2, "transformers_version": "4"})");
    const LogCapture log;

    open({"a"}, "base");

    EXPECT_THAT(log.text(), AllOf(HasSubstr(at("a") + ": says other things than " + at("base") +
                                            ", whose values the output has: "
                                            "max_position_embeddings is 32768, there 4096; eos_token_id is [2,5], there 2; "
                                            "generation_config.json: temperature is 0.6, there absent"),
                                  Not(HasSubstr("sliding_window")), Not(HasSubstr("transformers_version"))));
}

TEST_F(ModelSetTest, ComparesTheKindsOfLayersOneByOne) {
    std::vector<std::string> kinds(6, "full_attention");
    const auto write = [&](const char* name) {
        TinyLlama model;
        model.config["layer_types"] = kinds;
        model.write(folder_ / name);
    };
    write("base");
    kinds[3] = kinds[4] = "sliding_attention";
    write("a");
    const LogCapture log;

    open({"a"}, "base");

    EXPECT_THAT(log.text(), HasSubstr(R"(layer_types[3] is "sliding_attention", there "full_attention" (2 of 6 differ))"));
}

TEST_F(ModelSetTest, TakesOffWhatWrapsModulesWithin) {
    TinyLlama model, wrapped;
    for (const auto& [name, tensor] : model.tensors) {
        std::string other = name;
        if (const std::size_t at = name.find(".mlp."); at != std::string::npos) other.insert(at + 1, "_orig_mod.");
        if (name != other) wrapped.tensors.erase(name);
        wrapped.tensors[other] = tensor;
    }
    wrapped.write(folder_ / "a");
    const LogCapture log;

    const ModelSet set = open({"a"}, "base");

    EXPECT_NE(set.models[0].find("model.layers.1.mlp.up_proj.weight"), nullptr);
    EXPECT_THAT(log.text(), AllOf(HasSubstr("model.layers.0._orig_mod.mlp.down_proj.weight is taken for "
                                            "model.layers.0.mlp.down_proj.weight, and so 6 tensors")));
}

TEST_F(ModelSetTest, ShowsTheNamesThatDoNotFit) {
    EXPECT_THAT(refusal([](TinyLlama& model) {
                    TinyLlama other;
                    other.tensors.clear();
                    for (auto& [name, tensor] : model.tensors) other.tensors["wrapper." + name] = tensor;
                    model.tensors = other.tensors;
                }),
                AllOf(HasSubstr("lm_head.weight is missing"),
                      HasSubstr("Its tensors are wrapper.model.embed_tokens.weight, wrapper.model.layers.0.")));
}

ModelEntry entryOf(const std::string& model, const std::optional<LayerRange>& layers) {
    ModelEntry entry;
    entry.model = model;
    entry.layers = layers;
    return entry;
}

TEST_F(ModelSetTest, FindsTheLayersOfEverySlice) {
    MergeConfig config;
    config.slices.resize(2);
    config.slices[0].sources.push_back(entryOf(at("a"), LayerRange{0, 1, {}}));
    config.slices[0].sources.push_back(entryOf(at("b"), LayerRange{1, 2, {}}));
    config.slices[1].sources.push_back(entryOf(at("b"), std::nullopt));

    const ModelSet set = ModelSet::open(config);

    EXPECT_EQ(set.models.size(), 2u);
    EXPECT_EQ(set.slices[0].inputs[1].firstLayer, 1);
    EXPECT_EQ(set.slices[1].inputs[0].model, 1u);
    EXPECT_EQ(set.slices[1].firstLayer, 1);
    EXPECT_EQ(set.output.layers(), 3);
}

TEST_F(ModelSetTest, GivesTheLayersOfTheSourcesToABaseThatIsNone) {
    MergeConfig config;
    config.slices.resize(1);
    config.slices[0].sources.push_back(entryOf(at("a"), LayerRange{1, 2, {}}));
    config.slices[0].baseModel = at("base");

    const ModelSlice slice = ModelSet::open(config).slices[0];

    EXPECT_EQ(slice.baseInput, 1u);
    EXPECT_EQ(slice.inputs[1].firstLayer, 1);
    EXPECT_FALSE(slice.baseIsListed);
}

TEST_F(ModelSetTest, RefusesRangesThatDoNotFit) {
    const auto refused = [&](LayerRange a, LayerRange b) {
        MergeConfig config;
        config.slices.resize(1);
        config.slices[0].sources.push_back(entryOf(at("a"), a));
        config.slices[0].sources.push_back(entryOf(at("b"), b));
        return messageOf<UsageError>([&] { ModelSet::open(config); });
    };
    const SourceMark first{"merge.yaml", 4, 9}, second{"merge.yaml", 6, 9};

    EXPECT_EQ(refused({0, 3, first}, {0, 1, second}),
              "merge.yaml:4:9: layer_range [0, 3) goes beyond the 2 layers of " + at("a"));
    EXPECT_EQ(refused({0, 2, first}, {0, 1, second}), "merge.yaml:6:9: " + at("b") + " gives 1 layers to this slice, but " +
                                                          at("a") +
                                                          " gives 2 at merge.yaml:4:9; every source gives the same number");
}

/// A multimodal model: the tiny Llama as its text decoder beside a tower of two layers.
TinyLlama multimodal() {
    TinyLlama model;
    const auto text = std::exchange(model.tensors, {});
    for (const auto& [name, tensor] : text)
        model.tensors[name.starts_with("model.") ? "model.language_model." + name.substr(6) : name] = tensor;
    for (const char* layer : {"0", "1"})
        model.addFloats(std::string("model.vision_tower.layers.") + layer + ".fc.weight", {4, 4});
    model.addFloats("model.multi_modal_projector.weight", {4, 4});
    model.config = {{"architectures", {"TinyForConditionalGeneration"}},
                    {"model_type", "tiny_vlm"},
                    {"text_config", {{"num_hidden_layers", 2}, {"vocab_size", 6}, {"hidden_size", 4}}},
                    {"vision_config", {{"num_hidden_layers", 2}}}};
    return model;
}

/// A module that is whole models.
Slice moduleOf(const std::string& module, const std::string& model) {
    Slice slice;
    slice.sources.push_back({model, {}, {}});
    slice.wholeModels = true;
    slice.module = module;
    return slice;
}

TEST_F(ModelSetTest, RefusesSlicesOfSeveralStacks) {
    multimodal().write(folder_ / "base");
    MergeConfig config;
    config.slices.resize(1);
    config.slices[0].sources.push_back(entryOf(at("base"), LayerRange{0, 1, {}}));

    EXPECT_THAT(messageOf<UsageError>([&] { ModelSet::open(config); }),
                AllOf(HasSubstr("text_decoder, vision_tower"), HasSubstr("modules")));
}

TEST_F(ModelSetTest, TakesAModuleFromATextModel) {
    multimodal().write(folder_ / "base");
    MergeConfig config;
    config.baseModel = at("base");
    config.slices.push_back(moduleOf("text_decoder", at("a")));

    const ModelSet set = ModelSet::open(config);
    const std::vector<MatchedTensor> tensors = matchTensors(set);

    EXPECT_NE(set.models[0].find("model.language_model.layers.1.mlp.up_proj.weight"), nullptr);
    for (const MatchedTensor& tensor : tensors) {
        const bool isOfText = tensor.name.starts_with("model.language_model.") || tensor.name == "lm_head.weight";
        EXPECT_EQ(tensor.action, isOfText ? MatchedTensor::Action::Merge : MatchedTensor::Action::CopyFromBase)
            << tensor.name;
    }
    EXPECT_EQ(tensors.size(), multimodal().tensors.size());
}

TEST_F(ModelSetTest, NamesTheModulesThatThereAre) {
    multimodal().write(folder_ / "base");
    MergeConfig config;
    config.baseModel = at("base");
    config.slices.push_back(moduleOf("audio_tower", at("base")));

    EXPECT_THAT(messageOf<UsageError>([&] { ModelSet::open(config); }),
                HasSubstr("no module 'audio_tower'; it has text_decoder, vision_tower"));
}

}  // namespace
}  // namespace aimerge
