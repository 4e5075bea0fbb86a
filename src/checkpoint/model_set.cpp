#include "aimerge/checkpoint/model_set.h"

#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kLlama = "LlamaForCausalLM";

/// Every layer of the weights is one that config.json speaks of, and of a Llama model none is missing: an interrupted
/// conversion would otherwise be merged as far as it goes.
void checkLayers(const Checkpoint& model) {
    const ModelConfig& config = model.modelConfig();
    if (config.layers == 0) return;
    std::set<std::int64_t> layers;
    for (const TensorInfo& tensor : model.tensors()) {
        const Place place = placeOf(tensor.name);
        if (place.part != Part::Layer) continue;
        if (place.layer >= config.layers)
            throw InputError("{}: has tensor {}, but config.json says num_hidden_layers {}: the layers are 0 to {}",
                             model.name(), tensor.name, config.layers, config.layers - 1);
        layers.insert(place.layer);
    }
    if (config.architecture != kLlama || static_cast<std::int64_t>(layers.size()) == config.layers) return;
    std::int64_t missing = 0;
    while (layers.contains(missing)) ++missing;
    throw InputError(
        "{}: has no tensor of layer {}, but config.json says num_hidden_layers {}; weights or config.json are "
        "incomplete",
        model.name(), missing, config.layers);
}

/// What config.json says about lm_head against what is stored.
void checkHead(const Checkpoint& model) {
    const ModelConfig& config = model.modelConfig();
    if (config.architecture != kLlama) return;
    const bool stored = model.find(kHead) != nullptr;
    if (!stored && !config.tieWordEmbeddings)
        throw InputError(
            "{}: {} is missing, and config.json does not tie it to the embeddings (tie_word_embeddings); the weights are "
            "incomplete",
            model.name(), kHead);
    if (stored && config.tieWordEmbeddings)
        spdlog::warn("{}: stores {} although config.json ties it to the embeddings; the stored one is merged", model.name(),
                     kHead);
}

void checkAlone(const Checkpoint& model) {
    if (model.modelConfig().quantized)
        throw InputError(
            "{}: is quantised (quantization_config in config.json); merge its unquantised BF16, F16 or F32 version",
            model.name());
    checkLayers(model);
    checkHead(model);
}

/// Compares a model with the reference, key by key.
class Comparison {
public:
    Comparison(const Checkpoint& model, const Checkpoint& reference) : model_(model), reference_(reference) {}

    template <typename Value>
    void require(const char* key, Value ModelConfig::*field) const {
        const Value &found = model_.modelConfig().*field, &expected = reference_.modelConfig().*field;
        if (found != expected)
            throw InputError("{}: {} is {}, but {} has {}; only models of the same architecture and size can be merged",
                             model_.name(), key, found, reference_.name(), expected);
    }

    template <typename Value>
    void notice(const char* key, Value ModelConfig::*field) const {
        const Value &found = model_.modelConfig().*field, &expected = reference_.modelConfig().*field;
        if (found != expected)
            spdlog::warn("{}: {} is {}; the merged model gets that of {}, {}", model_.name(), key, found, reference_.name(),
                         expected);
    }

private:
    const Checkpoint& model_;
    const Checkpoint& reference_;
};

void checkTogether(const Checkpoint& model, const Checkpoint& reference) {
    const Comparison comparison(model, reference);
    comparison.require("architecture", &ModelConfig::architecture);
    comparison.require("model_type", &ModelConfig::modelType);
    comparison.require("num_hidden_layers", &ModelConfig::layers);
    comparison.require("hidden_size", &ModelConfig::hiddenSize);
    comparison.require("intermediate_size", &ModelConfig::intermediateSize);
    comparison.require("num_attention_heads", &ModelConfig::heads);
    comparison.require("num_key_value_heads", &ModelConfig::keyValueHeads);
    comparison.require("head_dim", &ModelConfig::headDim);
    comparison.notice("rope_theta", &ModelConfig::ropeTheta);
    comparison.notice("rope_type", &ModelConfig::ropeType);
    comparison.notice("rms_norm_eps", &ModelConfig::rmsNormEps);
    comparison.notice("hidden_act", &ModelConfig::activation);
}

}  // namespace

ModelSet ModelSet::open(const MergeConfig& config) {
    ModelSet set;
    for (const ModelEntry& entry : config.models) {
        if (entry.model == config.baseModel) set.baseIndex = set.models.size();
        set.models.push_back(Checkpoint::openOver(config.baseModel, entry.model));
    }
    if (!config.baseModel.empty() && !set.baseIndex) {
        set.baseIndex = set.models.size();
        set.models.push_back(Checkpoint::open(config.baseModel));
    }
    for (const Checkpoint& model : set.models) {
        // First of all: a model of another kind fails other checks too, with less helpful words.
        if (&model != &set.reference()) checkTogether(model, set.reference());
    }
    for (const Checkpoint& model : set.models) checkAlone(model);
    return set;
}

bool ModelSet::headIsWritten() const {
    return std::any_of(models.begin(), models.end(), [](const Checkpoint& model) { return model.find(kHead) != nullptr; });
}

}  // namespace aimerge
