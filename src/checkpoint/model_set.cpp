#include "aimerge/checkpoint/model_set.h"

#include "aimerge/core/error.h"
#include "checkpoint/complete_weights.h"
#include "checkpoint/first_names.h"
#include "checkpoint/other_meaning.h"
#include "checkpoint/quantized.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <set>

namespace aimerge {
namespace {

constexpr const char* kLlama = "LlamaForCausalLM";

/// "num_hidden_layers", with the section it is in.
std::string countName(const Stack& stack) {
    if (stack.countPaths.empty()) return "the number of layers";
    std::string name = stack.countPaths.front().substr(1);
    std::ranges::replace(name, '/', '.');
    return name;
}

/// Labels that say the same. One that is absent says nothing, and older ones have other capitals (LLaMAForCausalLM): names,
/// sizes and shapes are compared in any case.
bool areSameLabel(const std::string& a, const std::string& b) {
    const auto isSame = [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); };
    return a.empty() || b.empty() || std::ranges::equal(a, b, isSame);
}

bool isLlama(const Checkpoint& model) {
    const ModelConfig& config = model.modelConfig();
    return config.modelType == "llama" && areSameLabel(config.architecture, kLlama);
}

/// Every layer of the weights is one that config.json speaks of, and of a Llama model none is missing: an interrupted
/// conversion would otherwise be merged as far as it goes.
void checkLayers(const Checkpoint& model) {
    const Architecture& architecture = model.architecture();
    std::set<std::int64_t> layers;  // of the first stack
    for (const TensorInfo& tensor : model.tensors()) {
        const Place place = architecture.placeOf(tensor.name);
        if (place.part != Part::Layer) continue;
        const Stack& stack = architecture.stacks()[place.stack];
        if (place.layer >= stack.layers)
            throw InputError("{}: has tensor {}, but config.json says {} {}: the layers are 0 to {}", model.name(),
                             tensor.name, countName(stack), stack.layers, stack.layers - 1);
        if (place.stack == 0) layers.insert(place.layer);
    }
    if (!isLlama(model) || static_cast<std::int64_t>(layers.size()) == model.modelConfig().layers) return;
    std::int64_t missing = 0;
    while (layers.contains(missing)) ++missing;
    throw InputError(
        "{}: has no tensor of layer {}, but config.json says num_hidden_layers {}; fetch the model again, or put "
        "the number right. Its tensors are {}",
        model.name(), missing, model.modelConfig().layers, firstNames(model));
}

/// What config.json says about the head against what is stored.
void checkHead(const Checkpoint& model) {
    const ModelConfig& config = model.modelConfig();
    if (!isLlama(model)) return;
    const std::string& head = model.architecture().head();
    const bool stored = model.find(head) != nullptr;
    if (!stored && !config.tieWordEmbeddings)
        throw InputError(
            "{}: {} is missing, and config.json does not tie it to the embeddings (tie_word_embeddings); fetch the "
            "model again, or set it to true if the two are tied. Its tensors are {}",
            model.name(), head.empty() ? "the head" : head, firstNames(model));
}

/// A head that is stored although it is tied.
void sayTiedHead(const Checkpoint& model) {
    const Architecture& architecture = model.architecture();
    if (model.tiedHead() == TiedHead::Equal)
        spdlog::info("{}: stores its head, which config.json ties to {}, a second time; it is left out", model.name(),
                     architecture.embedding());
    if (model.tiedHead() == TiedHead::Different)
        spdlog::warn(
            "{}: config.json ties {} to {}, but the stored one differs from it; it is merged as a head of its own, as "
            "transformers 5 loads it. Programs that go by config.json alone run the embedding: where that is meant, remove "
            "the tensor",
            model.name(), architecture.head(), architecture.embedding());
}

void checkAlone(const Checkpoint& model) {
    refuseQuantized(model);
    refusePlaceholders(model);
    checkLayers(model);
    checkHead(model);
    sayTiedHead(model);
}

/// Compares a model with the reference, key by key.
class Comparison {
public:
    Comparison(const Checkpoint& model, const Checkpoint& reference, bool allowsCrimes)
        : model_(model), reference_(reference), allowsCrimes_(allowsCrimes) {}

    template <typename Value>
    void require(const char* key, Value ModelConfig::*field) const {
        const Value &found = model_.modelConfig().*field, &expected = reference_.modelConfig().*field;
        if (found == expected) return;
        if (allowsCrimes_) return notice(key, field);
        throw InputError(
            "{}: {} is {}, but {} has {}; only models of the same architecture and size can be merged. --allow-crimes "
            "merges "
            "what has equal names and shapes",
            model_.name(), key, found, reference_.name(), expected);
    }

    /// @throws InputError saying how a model of another class that has one of several stacks can give that
    void requireClass() const {
        const std::string &found = model_.modelConfig().architecture, &expected = reference_.modelConfig().architecture;
        const std::vector<Stack>& stacks = reference_.architecture().stacks();
        if (areSameLabel(found, expected)) return sayLabel("architectures", found, expected);
        if (allowsCrimes_ || stacks.size() < 2 || !findStackLike(model_.architecture(), stacks.front()))
            return require("architecture", &ModelConfig::architecture);
        throw InputError(
            "{}: architecture is {}, but {} has {}; only models of the same architecture and size can be merged as a whole. "
            "This one can give the {}: "
            "modules: {{{}: {{models: [...]}}}}",
            model_.name(), found, reference_.name(), expected, stacks.front().name, stacks.front().name);
    }

    void requireType() const {
        const std::string &found = model_.modelConfig().modelType, &expected = reference_.modelConfig().modelType;
        if (areSameLabel(found, expected)) return sayLabel("model_type", found, expected);
        require("model_type", &ModelConfig::modelType);
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
    /// @pre areSameLabel()
    void sayLabel(const char* key, const std::string& found, const std::string& expected) const {
        const auto text = [](const std::string& label) { return label.empty() ? "absent" : label; };
        if (found != expected)
            spdlog::info("{}: {} is {}, in {} it is {}; the two are compared by their tensors and sizes", model_.name(), key,
                         text(found), reference_.name(), text(expected));
    }

    const Checkpoint& model_;
    const Checkpoint& reference_;
    bool allowsCrimes_;
};

/// @param wholeModels all layers are merged with all, so that their number must be the same
void checkTogether(const Checkpoint& model, const Checkpoint& reference, bool wholeModels, bool allowsCrimes) {
    const Comparison comparison(model, reference, allowsCrimes);
    comparison.requireClass();
    comparison.requireType();
    if (wholeModels) comparison.require("num_hidden_layers", &ModelConfig::layers);
    comparison.require("hidden_size", &ModelConfig::hiddenSize);
    comparison.require("intermediate_size", &ModelConfig::intermediateSize);
    comparison.require("num_attention_heads", &ModelConfig::heads);
    comparison.require("num_key_value_heads", &ModelConfig::keyValueHeads);
    comparison.require("head_dim", &ModelConfig::headDim);
    if (knowsRope(reference)) {  // of others, sayOtherMeaning() compares what the configs state
        comparison.notice("rope_theta", &ModelConfig::ropeTheta);
        comparison.noticeRope();
    }
    comparison.notice("rms_norm_eps", &ModelConfig::rmsNormEps);
    comparison.notice("hidden_act", &ModelConfig::activation);
    sayOtherMeaning(model, reference, wholeModels);
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

std::string stackNames(const Architecture& architecture) {
    std::string names;
    for (const Stack& stack : architecture.stacks()) names += (names.empty() ? "" : ", ") + stack.name;
    return names;
}

/// @param stack of the reference; null: the module has no layers
LayerRange rangeOf(const ModelEntry& source, const Checkpoint& model, const Stack* stack) {
    if (stack == nullptr) return {0, 0, source.mark};
    const Stack* own = findStackLike(model.architecture(), *stack);
    if (own == nullptr)
        throw InputError(
            "{}: {} has no layers {}N, which are the {} of the merged model; if both are of one architecture, load and save "
            "both with one version of transformers (save_pretrained). Its tensors are {}",
            source.mark.text(), source.model, stack->prefix, stack->name, firstNames(model));
    const std::int64_t layers = own->layers;
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

/// @param stack of the reference; null: the module has no layers @param firstLayer of the output
ModelSlice resolveSlice(ModelSet& set, const MergeConfig& config, const Slice& slice, const Stack* stack,
                        std::int64_t firstLayer) {
    Opener opened(set);
    ModelSlice resolved;
    const std::string& base = config.baseOf(slice);
    LayerRange first;
    bool sameRange = true;
    for (const ModelEntry& source : slice.sources) {
        const std::size_t model = opened.indexOf(source.model);
        const LayerRange range = rangeOf(source, set.models[model], stack);
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
    rangeOf({base, {}, slice.mark, first}, set.models[model], stack);  // refuses layers that the base has not
    resolved.baseInput = resolved.inputs.size();
    resolved.baseIsListed = slice.wholeModels;
    resolved.inputs.push_back({model, first.from});
    return resolved;
}

/// Its own names are the reference's afterwards, where the two differ by known prefixes.
void takeReferenceNames(ModelSet& set) {
    for (std::size_t i = 0; i < set.models.size(); ++i)
        if (i != set.referenceIndex()) set.models[i].takeNamesOf(set.reference());
}

/// True for a model that is named in modules alone. It may be of another class, as long as it has the module's stack.
bool givesModulesAlone(const MergeConfig& config, const Checkpoint& model) {
    bool isWhole = model.name() == config.baseModel;
    for (const Slice& slice : config.slices)
        isWhole = isWhole || (slice.module.empty() && (slice.find(model.name()) || slice.baseModel == model.name()));
    return !isWhole;
}

/// The stack that a module of the config is about; nullopt for the whole model.
std::optional<std::size_t> stackOf(const ModelSet& set, const Slice& slice) {
    const Architecture& architecture = set.reference().architecture();
    if (!slice.module.empty()) {
        const auto stack = architecture.findStack(slice.module);
        if (!stack)
            throw UsageError("{}: {} has no module '{}'; it has {}", slice.moduleMark.text(), set.reference().name(),
                             slice.module, stackNames(architecture));
        return stack;
    }
    if (slice.wholeModels) return std::nullopt;
    if (architecture.stacks().size() == 1) return 0;
    if (architecture.stacks().empty())
        throw UsageError(
            "{}: {} has no layers that its config.json and tensor names tell, so it cannot be sliced; list it under "
            "'models'",
            slice.mark.text(), set.reference().name());
    throw UsageError(
        "{}: {} has several stacks of layers: {}; say by 'modules' which one these slices are of, e.g. modules: {{{}: "
        "{{slices: [...]}}}}",
        slice.mark.text(), set.reference().name(), stackNames(architecture), architecture.stacks().front().name);
}

void resolveModules(ModelSet& set, const MergeConfig& config) {
    for (std::size_t i = 0; i < config.slices.size(); ++i) {
        const Slice& slice = config.slices[i];
        if (i == 0 || slice.module != config.slices[i - 1].module) {
            ModelModule module{.stack = stackOf(set, slice), .firstSlice = i, .wholeModels = slice.wholeModels};
            // A model with one stack is all of that stack.
            if (slice.module.empty() && module.stack) module.stack.reset();
            set.modules.push_back(module);
        }
        ModelModule& module = set.modules.back();
        const std::vector<Stack>& stacks = set.reference().architecture().stacks();
        const Stack* stack = module.stack ? &stacks[*module.stack] : stacks.empty() ? nullptr : &stacks.front();
        // Whole models have all their stacks; slices have one.
        const std::int64_t firstLayer = module.slices == 0 ? 0 : set.slices.back().firstLayer + set.slices.back().layers;
        set.slices.push_back(resolveSlice(set, config, slice, stack, firstLayer));
        set.slices.back().module = set.modules.size() - 1;
        ++module.slices;
    }
    if (set.modules.size() == 1 && !set.modules.front().stack) return;
    set.modules.push_back({.firstSlice = set.slices.size(), .slices = 1, .isCopied = true});
    ModelSlice rest{.inputs = {{set.referenceIndex(), 0}}, .module = set.modules.size() - 1};
    if (set.baseIndex) rest.baseInput = 0;
    set.slices.push_back(std::move(rest));
}

/// Every layer is at its new place what it was; and the architecture with the new numbers of layers.
void arrangeLayers(ModelSet& set, const MergeConfig& config) {
    const Architecture& reference = set.reference().architecture();
    set.output = reference;
    for (const ModelModule& module : set.modules) {
        if (module.isCopied || module.wholeModels || reference.stacks().empty()) continue;
        const std::size_t stack = module.stack.value_or(0);
        std::vector<LayerSource> from;
        for (std::size_t i = module.firstSlice; i < module.firstSlice + module.slices; ++i) {
            const SliceInput& input = set.slices[i].inputs[set.slices[i].referenceInput()];
            for (std::int64_t layer = 0; layer < set.slices[i].layers; ++layer)
                from.push_back({&set.models[input.model].architecture(), input.firstLayer + layer});
        }
        if (from.empty())
            throw UsageError("{}: the slices have no layer among them", config.slices[module.firstSlice].mark.text());
        if (const std::string why = reference.whyNotRenumbered(stack, from); !why.empty())
            throw UsageError("{}: the layers of {} ({}) cannot be taken out and renumbered: {}",
                             config.slices[module.firstSlice].mark.text(), set.reference().name(), reference.modelType(),
                             why);
        set.output = set.output.withLayerCount(stack, static_cast<std::int64_t>(from.size()));
    }
}

}  // namespace

ModelSet ModelSet::open(const MergeConfig& config) {
    ModelSet set;
    set.allowsCrimes = config.allowsCrimes;
    openModels(set, config);
    takeReferenceNames(set);
    for (const Checkpoint& model : set.models) {
        // First of all: a model of another kind fails other checks too, with less helpful words.
        if (&model != &set.reference() && !givesModulesAlone(config, model))
            checkTogether(model, set.reference(), config.slices.front().wholeModels, config.allowsCrimes);
    }
    for (const Checkpoint& model : set.models) checkAlone(model);
    sayMissingPredictionLayers(set.reference());
    resolveModules(set, config);
    arrangeLayers(set, config);
    return set;
}

std::size_t ModelSet::moduleOf(const Place& place) const {
    if (modules.size() == 1) return 0;
    if (place.part != Part::Aside || place.isWithin)
        for (std::size_t i = 0; i < modules.size(); ++i)
            if (modules[i].stack == place.stack) return i;
    return modules.size() - 1;
}

const ModelSlice& ModelSet::lastSlice() const {
    const ModelModule& module = modules[moduleOf({Part::BehindLayers, 0})];
    return slices[module.firstSlice + module.slices - 1];
}

bool ModelSet::headIsWritten() const {
    const std::string& head = reference().architecture().head();
    return !head.empty() && std::ranges::any_of(lastSlice().inputs, [&](const SliceInput& input) {
        return models[input.model].find(head) != nullptr;
    });
}

const Stack* findStackLike(const Architecture& architecture, const Stack& other) {
    const std::vector<Stack>& stacks = architecture.stacks();
    const auto found = std::ranges::find(stacks, other.prefix, &Stack::prefix);
    return found == stacks.end() ? nullptr : &*found;
}

const TensorInfo* storedTensor(const Checkpoint& model, const std::string& name) {
    const TensorInfo* tensor = model.find(name);
    const Architecture& architecture = model.architecture();
    return tensor == nullptr && name == architecture.head() && !name.empty() ? model.find(architecture.embedding()) : tensor;
}

}  // namespace aimerge
