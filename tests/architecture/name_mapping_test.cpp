#include "aimerge/architecture/name_mapping.h"

#include <gtest/gtest.h>

namespace aimerge {
namespace {

class NamesOf {
public:
    NamesOf(const std::string& config, const std::vector<std::string>& names) {
        for (const std::string& name : names) tensors_.push_back({name, Dtype::F32, {8, 4}, 0, {}});
        architecture_ = Architecture(nlohmann::ordered_json::parse(config), tensors_);
        mapping_.emplace(architecture_, tensors_);
    }
    std::string find(const std::string& name) const { return mapping_->find(name).value_or("-"); }

private:
    std::vector<TensorInfo> tensors_;
    Architecture architecture_;
    std::optional<NameMapping> mapping_;
};

TEST(NameMapping, ExchangesKnownPrefixes) {
    const NamesOf gpt2(R"({"model_type": "gpt2", "n_layer": 2})",
                       {"transformer.wte.weight", "transformer.h.0.ln_1.weight", "transformer.h.1.ln_1.weight"});
    EXPECT_EQ(gpt2.find("h.1.ln_1.weight"), "transformer.h.1.ln_1.weight");
    EXPECT_EQ(gpt2.find("wte.weight"), "transformer.wte.weight");
    EXPECT_EQ(gpt2.find("_orig_mod.transformer.wte.weight"), "transformer.wte.weight");
    EXPECT_EQ(gpt2.find("transformer.wte.weight"), "transformer.wte.weight");

    const NamesOf hub(R"({"model_type": "gpt2", "n_layer": 1})", {"wte.weight", "h.0.ln_1.weight"});
    EXPECT_EQ(hub.find("transformer.h.0.ln_1.weight"), "h.0.ln_1.weight");
}

TEST(NameMapping, FindsATextModelWithinAMultimodalOne) {
    const NamesOf gemma(R"({"model_type": "gemma3", "text_config": {"num_hidden_layers": 1, "vocab_size": 8}})",
                        {"language_model.model.layers.0.mlp.up_proj.weight", "language_model.model.embed_tokens.weight",
                         "language_model.lm_head.weight", "vision_tower.x.weight"});
    EXPECT_EQ(gemma.find("model.layers.0.mlp.up_proj.weight"), "language_model.model.layers.0.mlp.up_proj.weight");
    EXPECT_EQ(gemma.find("model.language_model.layers.0.mlp.up_proj.weight"),
              "language_model.model.layers.0.mlp.up_proj.weight");
    EXPECT_EQ(gemma.find("lm_head.weight"), "language_model.lm_head.weight");
    EXPECT_EQ(gemma.find("model.vision_tower.x.weight"), "vision_tower.x.weight");
}

TEST(NameMapping, LeavesOtherNamesAlone) {
    const NamesOf llama(R"({"model_type": "llama", "num_hidden_layers": 1})", {"model.layers.0.mlp.up_proj.weight"});
    EXPECT_EQ(llama.find("model.layers.0.mlp.gate_proj.weight"), "-");
    EXPECT_EQ(llama.find("model.layers.7.mlp.up_proj.weight"), "model.layers.7.mlp.up_proj.weight");
}

}  // namespace
}  // namespace aimerge
