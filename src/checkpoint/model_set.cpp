#include "aimerge/checkpoint/model_set.h"

#include "aimerge/architecture/parameter_name.h"
#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
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

    void noticeRope() const {
        const RopeScaling &found = model_.modelConfig().rope, &expected = reference_.modelConfig().rope;
        if (found != expected)
            spdlog::warn("{}: rope_type is {} with factor {}; the merged model gets that of {}, {} with factor {}",
                         model_.name(), found.type, found.factor, reference_.name(), expected.type, expected.factor);
    }

private:
    const Checkpoint& model_;
    const Checkpoint& reference_;
};

/// @param wholeModels all layers are merged with all, so that their number must be the same
void checkTogether(const Checkpoint& model, const Checkpoint& reference, bool wholeModels) {
    const Comparison comparison(model, reference);
    comparison.require("architecture", &ModelConfig::architecture);
    comparison.require("model_type", &ModelConfig::modelType);
    if (wholeModels) comparison.require("num_hidden_layers", &ModelConfig::layers);
    comparison.require("hidden_size", &ModelConfig::hiddenSize);
    comparison.require("intermediate_size", &ModelConfig::intermediateSize);
    comparison.require("num_attention_heads", &ModelConfig::heads);
    comparison.require("num_key_value_heads", &ModelConfig::keyValueHeads);
    comparison.require("head_dim", &ModelConfig::headDim);
    comparison.notice("rope_theta", &ModelConfig::ropeTheta);
    comparison.noticeRope();
    comparison.notice("rms_norm_eps", &ModelConfig::rmsNormEps);
    comparison.notice("hidden_act", &ModelConfig::activation);
}

/// Of config.json; of an architecture that it does not say it for, the names tell.
std::int64_t layersOf(const Checkpoint& model) {
    if (model.modelConfig().layers > 0) return model.modelConfig().layers;
    std::int64_t last = -1;
    for (const TensorInfo& tensor : model.tensors()) last = std::max(last, placeOf(tensor.name).layer);
    return last + 1;
}

/// Opens the models of a config, each once.
class Opener {
public:
    explicit Opener(ModelSet& set) : set_(set) {}

    /// @param base what an adapter is applied to
    std::size_t indexOf(const std::string& name, const std::string& base = {}) {
        const auto known = std::ranges::find(set_.models, name, &Checkpoint::name);
        if (known == set_.models.end()) {
            set_.models.push_back(Checkpoint::openOver(base, name));
            return set_.models.size() - 1;
        }
        return static_cast<std::size_t>(known - set_.models.begin());
    }

private:
    ModelSet& set_;
};

void openModels(ModelSet& set, const MergeConfig& config) {
    Opener opener(set);
    for (const Slice& slice : config.slices)
        for (const ModelEntry& source : slice.sources) opener.indexOf(source.model, config.baseOf(slice));
    for (const Slice& slice : config.slices)
        if (!slice.baseModel.empty()) opener.indexOf(slice.baseModel);
    if (!config.baseModel.empty()) set.baseIndex = opener.indexOf(config.baseModel);
}

LayerRange rangeOf(const ModelEntry& source, const Checkpoint& model) {
    const std::int64_t layers = layersOf(model);
    if (!source.layers) return {0, layers, source.mark};
    if (source.layers->to > layers)
        throw UsageError("{}: layer_range [{}, {}) goes beyond the {} layers of {}", source.layers->mark.text(),
                         source.layers->from, source.layers->to, layers, source.model);
    return *source.layers;
}

void checkSameLayers(const Slice& slice, const LayerRange& first, const LayerRange& range, const ModelEntry& source) {
    const std::int64_t expected = first.to - first.from, found = range.to - range.from;
    if (found == expected) return;
    throw UsageError("{}: {} gives {} layers to this slice, but {} gives {} at {}; every source gives the same number",
                     range.mark.text(), source.model, found, slice.sources.front().model, expected, first.mark.text());
}

/// @param firstLayer of the output
ModelSlice resolveSlice(ModelSet& set, const MergeConfig& config, const Slice& slice, std::int64_t firstLayer) {
    Opener opened(set);
    ModelSlice resolved;
    const std::string& base = config.baseOf(slice);
    LayerRange first;
    bool sameRange = true;
    for (const ModelEntry& source : slice.sources) {
        const std::size_t model = opened.indexOf(source.model);
        const LayerRange range = rangeOf(source, set.models[model]);
        if (resolved.inputs.empty()) first = range;
        checkSameLayers(slice, first, range, source);
        sameRange = sameRange && range.from == first.from;
        if (source.model == base) resolved.baseInput = resolved.inputs.size();
        resolved.inputs.push_back({model, range.from});
    }
    resolved.firstLayer = firstLayer;
    resolved.layers = first.to - first.from;
    if (base.empty() || resolved.baseInput) return resolved;

    // A base that is no source gives the layers that the sources give.
    if (!sameRange)
        throw UsageError("{}: the sources of this slice have different layers; list base_model {} among them with its own",
                         slice.mark.text(), base);
    const std::size_t model = opened.indexOf(base);
    rangeOf({base, {}, slice.mark, first}, set.models[model]);  // refuses layers that the base has not
    resolved.baseInput = resolved.inputs.size();
    resolved.baseIsListed = slice.wholeModels;
    resolved.inputs.push_back({model, first.from});
    return resolved;
}

}  // namespace

ModelSet ModelSet::open(const MergeConfig& config) {
    ModelSet set;
    openModels(set, config);
    for (const Checkpoint& model : set.models) {
        // First of all: a model of another kind fails other checks too, with less helpful words.
        if (&model != &set.reference()) checkTogether(model, set.reference(), config.slices.front().wholeModels);
    }
    std::int64_t layers = 0;
    for (const Slice& slice : config.slices) {
        set.slices.push_back(resolveSlice(set, config, slice, layers));
        layers += set.slices.back().layers;
    }
    for (const Checkpoint& model : set.models) checkAlone(model);
    return set;
}

bool ModelSet::headIsWritten() const {
    return std::ranges::any_of(slices.back().inputs,
                               [&](const SliceInput& input) { return models[input.model].find(kHead) != nullptr; });
}

const TensorInfo* storedTensor(const Checkpoint& model, const std::string& name) {
    const TensorInfo* tensor = model.find(name);
    return tensor == nullptr && name == kHead ? model.find(kEmbedding) : tensor;
}

}  // namespace aimerge
