#include "aimerge/checkpoint/adapter.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/checkpoint/model_set.h"
#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/temp_folder.h"
#include "support/tiny_adapter.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kQuery = "model.layers.0.self_attn.q_proj";
constexpr const char* kKey = "model.layers.1.self_attn.k_proj";

class AdapterTest : public testing::Test {
protected:
    AdapterTest() { TinyLlama().write(folder_ / "base"); }

    std::string at(const std::string& name) const { return (folder_ / name).string(); }

    Checkpoint open(const TinyAdapter& adapter) const {
        adapter.write(folder_ / "adapter");
        return Checkpoint::openOver(at("base"), at("adapter"));
    }

    /// The message when the adapter is changed and opened over the base.
    std::string refusal(const std::function<void(TinyAdapter&)>& change) const {
        TinyAdapter adapter;
        change(adapter);
        return messageOf<InputError>([&] { open(adapter); });
    }

    double scalingOf(const Checkpoint& model, const std::string& module) const {
        const TensorInfo* tensor = model.find(module + ".weight");
        const LowRankUpdate* update = tensor ? factorsOf(model, module + ".weight") : nullptr;
        return update ? update->scaling : std::nan("");
    }

    static const LowRankUpdate* factorsOf(const Checkpoint& model, const std::string& parameter) {
        const ParameterUpdate* update = model.updateOf(*model.find(parameter));
        return update ? std::get_if<LowRankUpdate>(update) : nullptr;
    }

    TempFolder folder_;
};

TEST_F(AdapterTest, ChangesTheBasesTensors) {
    const Checkpoint model = open(TinyAdapter());

    EXPECT_TRUE(model.isAdapted());
    EXPECT_EQ(model.name(), at("adapter"));
    EXPECT_EQ(model.folder(), at("base"));
    EXPECT_EQ(model.tensors().size(), TinyLlama().tensors.size());
    const LowRankUpdate* update = factorsOf(model, "model.layers.0.self_attn.q_proj.weight");
    ASSERT_NE(update, nullptr);
    EXPECT_EQ(update->rank(), 2);
    EXPECT_EQ(update->scaling, 2);  // lora_alpha 4 / r 2
    EXPECT_FALSE(update->transposed);
    EXPECT_EQ(update->shape(), (Shape{4, 4}));
    EXPECT_EQ(model.updateOf(*model.find("model.norm.weight")), nullptr);
}

TEST_F(AdapterTest, IsNamedWithItsBase) {
    TinyAdapter().write(folder_ / "adapter");
    const std::string name = at("base") + "+" + at("adapter");

    EXPECT_TRUE(Checkpoint::open(name).isAdapted());
    EXPECT_EQ(Checkpoint::open(name).name(), name);
    EXPECT_TRUE(Checkpoint::openOver("", name).isAdapted());
}

TEST_F(AdapterTest, APlusInTheNameOfAFolderIsNoAdapter) {
    TinyLlama().write(folder_ / "a+b");

    EXPECT_FALSE(Checkpoint::open(at("a+b")).isAdapted());
    EXPECT_FALSE(splitAdaptedName("nothing").has_value());
    TinyAdapter().write(folder_ / "x+y");
    const auto parts = splitAdaptedName(at("a+b") + "+" + at("x+y"));
    ASSERT_TRUE(parts.has_value());
    EXPECT_EQ(parts->base, at("a+b"));
    EXPECT_EQ(parts->adapter, at("x+y"));
}

TEST_F(AdapterTest, NeedsABaseThatIsAWholeModel) {
    TinyAdapter().write(folder_ / "adapter");

    const std::string alone = messageOf<InputError>([&] { Checkpoint::openOver("", at("adapter")); });
    const std::string twice =
        messageOf<InputError>([&] { Checkpoint::openOver(at("base") + "+" + at("adapter"), at("adapter")); });

    EXPECT_THAT(alone, AllOf(HasSubstr("is an adapter"), HasSubstr("BASE+" + at("adapter"))));
    EXPECT_THAT(twice, HasSubstr("which has an adapter already"));
}

TEST_F(AdapterTest, IsAnExpertOfAModelSet) {
    TinyAdapter().write(folder_ / "adapter");
    MergeConfig config;
    config.slices.push_back({.sources = {{at("adapter"), {}, {}}}, .wholeModels = true});
    config.baseModel = at("base");

    const ModelSet set = ModelSet::open(config);

    EXPECT_TRUE(set.models[0].isAdapted());
    EXPECT_FALSE(set.reference().isAdapted());
}

TEST_F(AdapterTest, ScalesByAlphaOverRankOrItsRoot) {
    TinyAdapter adapter;
    adapter.config["use_rslora"] = true;

    EXPECT_EQ(scalingOf(open(adapter), kQuery), 4 / std::sqrt(2.0));
}

TEST_F(AdapterTest, PatternsMatchTheEndOfAName) {
    TinyAdapter adapter;
    adapter.addFactors(kKey, 3, 4, 2);  // rank 3
    adapter.config["target_modules"] = {"q_proj", "k_proj"};
    adapter.config["rank_pattern"] = {{"proj", 7}, {"layers.[1-9].self_attn.k_proj", 3}, {"k_proj", 5}};
    adapter.config["alpha_pattern"] = {{"0.self_attn.q_proj", 10}};

    const Checkpoint model = open(adapter);

    EXPECT_EQ(scalingOf(model, kQuery), 5);        // 10 / 2: "proj" is not a whole part of the name
    EXPECT_EQ(scalingOf(model, kKey), 4.0 / 3.0);  // the first pattern that fits
}

TEST_F(AdapterTest, StoresModulesInFull) {
    TinyAdapter adapter;
    adapter.config["modules_to_save"] = {"lm_head"};
    adapter.addFloats("base_model.model.lm_head.weight", {7, 4}, 5);

    const Checkpoint model = open(adapter);
    const TensorInfo& head = *model.find("lm_head.weight");

    EXPECT_EQ(head.shape, (Shape{7, 4}));
    float first = 0;
    model.read(head, 0, std::as_writable_bytes(std::span(&first, 1)));
    EXPECT_EQ(first, 5);
}

TEST_F(AdapterTest, MayEnlargeTheVocabulary) {
    TinyAdapter adapter;
    adapter.config["modules_to_save"] = {"lm_head", "embed_tokens"};
    adapter.addFloats("base_model.model.lm_head.weight", {9, 4}, 5);
    adapter.addFloats("base_model.model.model.embed_tokens.weight", {9, 4}, 5);

    const Checkpoint model = open(adapter);

    EXPECT_EQ(model.modelConfig().vocabSize, 9);
    EXPECT_EQ(model.config()["vocab_size"], 9);
}

TEST_F(AdapterTest, GivesATiedModelAHeadOfItsOwnWhenEmbeddingsAreStored) {
    TinyLlama tied;
    tied.config["tie_word_embeddings"] = true;
    tied.tensors.erase("lm_head.weight");
    tied.write(folder_ / "base");
    TinyAdapter adapter;
    adapter.config["modules_to_save"] = {"embed_tokens"};
    adapter.addFloats("base_model.model.model.embed_tokens.weight", {6, 4}, 5);

    const Checkpoint model = open(adapter);

    EXPECT_FALSE(model.modelConfig().tieWordEmbeddings);
    ASSERT_NE(model.find("lm_head.weight"), nullptr);
    EXPECT_EQ(model.find("lm_head.weight")->fileIndex, 0u);             // the base's embeddings
    EXPECT_EQ(model.find("model.embed_tokens.weight")->fileIndex, 1u);  // the adapter's
}

TEST_F(AdapterTest, RefusesWhatPeftWouldMergeOtherwise) {
    const struct {
        std::string key;
        nlohmann::ordered_json value;
        std::string message;
    } rows[] = {
        {"peft_type", "PREFIX_TUNING", "peft_type is \"PREFIX_TUNING\", expected a kind that changes weights"},
        {"peft_type", "CARTRIDGE", "leaves all weights as they are, so there is nothing to merge"},
        {"peft_type", 3, "peft_type is 3"},
        {"use_dora", true, "lora_A.weight has no lora_magnitude_vector beside it"},
        {"bias", "some", "bias is \"some\", expected \"none\", \"all\" or \"lora_only\""},
        {"alora_invocation_tokens", {1}, "alora_invocation_tokens is [1], expected it off"},
        {"layer_replication", {{0, 1}}, "layer_replication is"},
        {"init_lora_weights", "pissa_niter_4", "init_lora_weights is \"pissa_niter_4\""},
        {"init_lora_weights", "loftq", "init_lora_weights is \"loftq\""},
        {"r", 0, "r is 0, expected a whole number of at least 1"},
        {"r", 3, "has shape [2, 4], but"},
        {"lora_alpha", "x", "lora_alpha is \"x\""},
        {"rank_pattern", {{"q_proj", 1.5}}, "rank_pattern is"},
        {"rank_pattern", {{"q_proj(", 2}}, "rank_pattern has \"(.*\\.)?(q_proj()\""},
        {"rank_pattern", {{"q_proj", 4}}, "rank 4"},
        {"layers_to_transform", {1}, "that layers_to_transform of adapter_config.json leaves as it is"},
        {"exclude_modules", {"q_proj"}, "that exclude_modules of"},
        {"target_modules", {"v_proj"}, "that target_modules of"},
        {"target_modules", ".*v_proj", "that target_modules of"},
        {"modules_to_save", {"lm_head"}, "lm_head.weight is missing, although modules_to_save"},
        {"fan_in_fan_out", true, "fan_in_fan_out is true"},
    };
    for (const auto& row : rows)
        EXPECT_THAT(refusal([&](TinyAdapter& adapter) { adapter.config[row.key] = row.value; }),
                    AllOf(HasSubstr(at("adapter")), HasSubstr(row.message)))
            << row.key << " " << row.value;
}

TEST_F(AdapterTest, TakesSettingsThatChangeNothing) {
    const std::pair<const char*, nlohmann::ordered_json> rows[] = {{"lora_dropout", 0.1},
                                                                   {"init_lora_weights", "gaussian"},
                                                                   {"layers_to_transform", {0, 1}},
                                                                   {"layers_to_transform", 0},
                                                                   {"target_modules", "all-linear"},
                                                                   {"target_modules", ".*\\.q_proj"},
                                                                   {"use_dora", false},
                                                                   {"layer_replication", nullptr},
                                                                   {"modules_to_save", {"score"}},
                                                                   {"layers_pattern", {"layers"}},
                                                                   {"bias", "all"},
                                                                   {"target_parameters", {"experts.up"}},
                                                                   {"trainable_token_indices", {1}}};
    for (const auto& [key, value] : rows) {
        TinyAdapter adapter;
        adapter.config[key] = value;
        EXPECT_EQ(scalingOf(open(adapter), kQuery), 2) << key << " " << value;
    }
}

TEST_F(AdapterTest, StoresBiasesInFull) {
    TinyLlama base;
    base.tensors["model.layers.0.self_attn.q_proj.bias"] = {"F32", {4}, bytesOf<float>({0, 0, 0, 0})};
    base.write(folder_ / "base");
    TinyAdapter adapter;
    adapter.config["bias"] = "lora_only";
    adapter.addFloats("base_model.model." + std::string(kQuery) + ".base_layer.bias", {4}, 5);

    const Checkpoint model = open(adapter);

    EXPECT_EQ(model.find(std::string(kQuery) + ".bias")->fileIndex, 1u);
}

TEST_F(AdapterTest, OfThreeNamesOfSavedEmbeddingsTheOneThatPeftLoadsCounts) {
    TinyAdapter adapter;
    adapter.config["modules_to_save"] = {"lm_head"};
    adapter.addFloats("base_model.model.lm_head.weight", {7, 4}, 5);
    adapter.addFloats("base_model.model.lm_head.modules_to_save.weight", {7, 4}, 6);
    adapter.addFloats("base_model.model.lm_head.original_module.weight", {7, 4}, 7);

    const Checkpoint model = open(adapter);

    float first = 0;
    model.read(*model.find("lm_head.weight"), 0, std::as_writable_bytes(std::span(&first, 1)));
    EXPECT_EQ(first, 5);
    adapter.tensors.erase("base_model.model.lm_head.weight");
    EXPECT_THAT(messageOf<InputError>([&] { open(adapter); }),
                AllOf(HasSubstr("lm_head.modules_to_save.weight"), HasSubstr("not base_model.model.lm_head.weight")));
}

TEST_F(AdapterTest, TakesNamesWithoutWhatTrainingProgramsPutBeforeThem) {
    for (const std::string prefix : {"base_model.model.base_model.model.", "_orig_mod.base_model.model.",
                                     "base_model.model._orig_mod.", "module.base_model.model."}) {
        TinyAdapter adapter;
        std::map<std::string, TinyTensor> renamed;
        for (const auto& [name, tensor] : adapter.tensors) renamed[prefix + name.substr(17)] = tensor;
        adapter.tensors = renamed;
        const LogCapture log;

        EXPECT_EQ(scalingOf(open(adapter), kQuery), 2) << prefix;
        EXPECT_THAT(log.text(), HasSubstr("its names begin with " + prefix));
    }
}

TEST_F(AdapterTest, SaysThatNamesWithTheAdaptersOwnNameAreNotAsPeftSavesThem) {
    EXPECT_THAT(
        refusal([](TinyAdapter& adapter) {
            adapter.addFloats("base_model.model.model.layers.1.self_attn.q_proj.lora_A.default.weight", {2, 4}, 0);
        }),
        AllOf(HasSubstr("lora_A.default.weight"), HasSubstr("PEFT would not load it"), HasSubstr("save_pretrained")));
}

/// An adapter with rows for two tokens of the embedding.
TinyAdapter withTokens(const nlohmann::ordered_json& tokens) {
    TinyAdapter adapter;
    adapter.config["trainable_token_indices"] = tokens;
    adapter.addFloats("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", {2, 4}, 50);
    return adapter;
}

TEST_F(AdapterTest, ReplacesRowsOfTokens) {
    for (const nlohmann::ordered_json& tokens :
         {nlohmann::ordered_json({5, 1}), nlohmann::ordered_json({{"embed_tokens", {5, 1}}})}) {
        const Checkpoint model = open(withTokens(tokens));
        const auto* rows = std::get_if<TokenRows>(model.updateOf(*model.find("model.embed_tokens.weight")));
        ASSERT_NE(rows, nullptr);
        EXPECT_EQ(rows->tokens, (std::vector<std::int64_t>{5, 1}));
    }
}

TEST_F(AdapterTest, RefusesRowsOfTokensThatDoNotFit) {
    const std::pair<nlohmann::ordered_json, const char*> rows[] = {{nullptr, "does not say which tokens"},
                                                                   {{1, 1}, "no token twice"},
                                                                   {{1}, "names 1 tokens"},
                                                                   {{1, 700}, "names token 700"},
                                                                   {{1, -1}, "numbers of tokens"},
                                                                   {{{"lm_head", {1, 2}}}, "does not say which"}};
    for (const auto& [tokens, message] : rows)
        EXPECT_THAT(messageOf<InputError>([&, &config = tokens] { open(withTokens(config)); }), HasSubstr(message));
}

TEST_F(AdapterTest, AdaptersOfTokensAloneHaveTheirOwnNames) {
    TinyAdapter adapter;
    adapter.config = {{"peft_type", "TRAINABLE_TOKENS"}, {"token_indices", {3}}, {"target_modules", "model.embed_tokens"}};
    adapter.tensors.clear();
    adapter.addFloats("base_model.model.model.embed_tokens.trainable_tokens_delta", {1, 4}, 50);

    const Checkpoint model = open(adapter);

    EXPECT_NE(model.updateOf(*model.find("model.embed_tokens.weight")), nullptr);
}

TEST_F(AdapterTest, RefusesChangesOfATiedHeadForTheTrueReason) {
    TinyLlama tied;
    tied.config["tie_word_embeddings"] = true;
    tied.tensors.erase("lm_head.weight");
    tied.write(folder_ / "base");
    TinyAdapter adapter;
    adapter.config["ensure_weight_tying"] = true;
    adapter.config["target_modules"] = {"q_proj", "embed_tokens"};
    adapter.addFactors("lm_head", 2, 4, 7);

    EXPECT_THAT(messageOf<InputError>([&] { open(adapter); }),
                AllOf(HasSubstr("lm_head.lora_A.weight"), HasSubstr("ties to the embeddings"),
                      HasSubstr("besides any change of the embeddings")));
}

TEST_F(AdapterTest, ATiedHeadWithTheEmbeddingsOwnRowsStaysTied) {
    TinyLlama tied;
    tied.config["tie_word_embeddings"] = true;
    tied.tensors.erase("lm_head.weight");
    tied.write(folder_ / "base");
    TinyAdapter adapter = withTokens({1, 2});
    adapter.config["trainable_token_indices"] = {{"embed_tokens", {1, 2}}, {"lm_head", {1, 2}}};
    adapter.addFloats("base_model.model.lm_head.token_adapter.trainable_tokens_delta", {2, 4}, 50);

    const Checkpoint model = open(adapter);

    EXPECT_TRUE(model.modelConfig().tieWordEmbeddings);
    EXPECT_EQ(model.find("lm_head.weight"), nullptr);
}

TEST_F(AdapterTest, IsSaidWhenItLiesInTheFolderOfAModelThatIsTakenAlone) {
    TinyAdapter().write(folder_ / "base");

    const LogCapture alone;
    Checkpoint::open(at("base"));
    EXPECT_THAT(alone.text(), HasSubstr("has an adapter (adapter_config.json) beside its weights"));

    const LogCapture applied;
    EXPECT_TRUE(Checkpoint::open(at("base") + "+" + at("base")).isAdapted());
    EXPECT_THAT(applied.text(), Not(HasSubstr("beside its weights")));
}

TEST_F(AdapterTest, RefusesTensorsThatDoNotFit) {
    const std::string factor = std::string("base_model.model.") + kQuery + ".lora_A.weight";
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) { adapter.tensors.erase(factor); }),
                AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("lora_B.weight has no A beside it")));
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) {
                    adapter.addFloats(factor, {2, 5}, 0);
                }),
                AllOf(HasSubstr(factor), HasSubstr("[4, 5], but"), HasSubstr("has [4, 4]")));
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) {
                    adapter.addFloats(factor, {2, 4, 1}, 0);
                }),
                HasSubstr("has shape [2, 4, 1], expected a matrix"));
    EXPECT_THAT(
        refusal([&](TinyAdapter& adapter) { adapter.addFactors("model.layers.9.self_attn.q_proj", 2, 4, 4); }),
        AllOf(HasSubstr("layers.9.self_attn.q_proj.lora_A.weight"), HasSubstr("name the base that it was trained on")));
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) { adapter.addFloats("base_model.model.model.other.weight", {2}, 0); }),
                AllOf(HasSubstr("model.other.weight"), HasSubstr("name the base that it was trained on")));
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) { adapter.addFloats("lora_A", {2}, 0); }),
                HasSubstr("tensor lora_A is not of an adapter"));
    EXPECT_THAT(refusal([&](TinyAdapter& adapter) { adapter.addFloats("base_model.model.model.norm.weight", {5}, 0); }),
                AllOf(HasSubstr("model.norm.weight with shape [5], but it has [4]")));
}

TEST_F(AdapterTest, RefusesAFolderWithoutWeights) {
    TinyAdapter().write(folder_ / "adapter");
    fs::remove(folder_ / "adapter/adapter_model.safetensors");
    const auto message = [&] { return messageOf<InputError>([&] { Checkpoint::openOver(at("base"), at("adapter")); }); };

    EXPECT_THAT(message(),
                HasSubstr("has neither adapter_model.safetensors nor adapter_model.bin, so the adapter has no weights"));
    writeBytes(folder_ / "adapter/adapter_model.bin", "x");
    EXPECT_THAT(message(), HasSubstr("adapter_model.bin: begins with \"x\", expected the zip archive"));
}

TEST_F(AdapterTest, SaysWhenItNamesAnotherBase) {
    TinyAdapter adapter;
    adapter.config["base_model_name_or_path"] = "org/other";
    const LogCapture other;
    open(adapter);
    EXPECT_THAT(other.text(), AllOf(HasSubstr("names the base model org/other"), HasSubstr(at("base"))));

    adapter.config["base_model_name_or_path"] = "/elsewhere/base";
    const LogCapture same;
    open(adapter);
    EXPECT_THAT(same.text(), Not(HasSubstr("names the base model")));
}

TEST_F(AdapterTest, ItsWeightsAndConfigArePartOfEveryDigest) {
    ThreadPool threads(2);
    const auto digests = [&](const Checkpoint& model) {
        return std::vector{model.headerDigest().hex(), model.contentDigest(threads).hex(), model.fileStamps()};
    };
    TinyAdapter adapter;
    const auto plain = digests(Checkpoint::open(at("base"))), adapted = digests(open(adapter));
    adapter.config["lora_alpha"] = 6;
    const auto rescaled = digests(open(adapter));
    for (std::size_t i = 0; i < plain.size(); ++i) {
        EXPECT_NE(plain[i], adapted[i]);
        EXPECT_NE(adapted[i], rescaled[i]);
    }

    adapter.addFactors(kQuery, 2, 4, 4, 9);
    EXPECT_NE(digests(open(adapter))[1], rescaled[1]);
}

TEST_F(AdapterTest, UsesItsOwnTokenizerWhenItHasOne) {
    const TinyAdapter adapter;
    EXPECT_EQ(open(adapter).tokenizerFolder(), at("base"));

    writeBytes(folder_ / "adapter/tokenizer.json", "{}");
    EXPECT_EQ(open(adapter).tokenizerFolder(), at("adapter"));
}

}  // namespace
}  // namespace aimerge
