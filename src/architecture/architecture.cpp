#include "aimerge/architecture/architecture.h"

#include "aimerge/architecture/family.h"
#include "architecture/layer_kinds.h"
#include "architecture/parameter_role.h"
#include "architecture/stack_finder.h"
#include "architecture/tied_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kWeightSuffix = ".weight";

/// What heads are called; the first is the usual name, which a tied head would have.
constexpr std::array<std::string_view, 8> kHeads{
    "lm_head.weight", "language_model.lm_head.weight",  "embed_out.weight",       "output.weight",
    "head.weight",    "cls.predictions.decoder.weight", "vocab_projector.weight", "generator_lm_head.weight"};

/// Where config.json speaks of the text.
constexpr std::array kTextSections{"", "/text_config", "/llm_config", "/language_config", "/thinker_config/text_config"};

/// The first of the keys that config.json has, at its top or in the section about the text. 0: none.
std::int64_t numberIn(const Json& config, std::initializer_list<const char*> keys) {
    for (const char* section : kTextSections) {
        const Json* values = valueAt(config, section);
        if (values == nullptr || !values->is_object()) continue;
        for (const char* key : keys) {
            const auto found = values->find(key);
            if (found != values->end() && found->is_number_integer() && found->get<std::int64_t>() > 0)
                return found->get<std::int64_t>();
        }
    }
    return 0;
}

std::string textOf(const Json& config, const char* key) {
    const auto found = config.find(key);
    return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

/// What has the router: "model.layers.0.mlp" of "model.layers.0.mlp.gate", also where the router is a module with parts.
std::string blockOfRouter(std::string_view module) {
    for (const std::string_view part : {".layer", ".wg", ".classifier", ".proj"})
        if (module.ends_with(part)) module = module.substr(0, module.size() - part.size());
    return std::string(module.substr(0, module.rfind('.')));
}

/// The last projection of an MLP, which its inner activation enters.
bool isLastOfMlp(std::string_view module) {
    constexpr std::array<std::string_view, 7> kNames{"down_proj", "w2", "output_linear", "fc2", "linear_fc2",
                                                     "c_proj",    "wo"};
    return std::ranges::find(kNames, module.substr(module.rfind('.') + 1)) != kNames.end();
}

/// Every row of a tensor that has one for each expert.
std::vector<MatrixPart> rowsOf(std::string_view tensor, const Shape& shape) {
    const Shape row(shape.begin() + 1, shape.end());
    std::vector<MatrixPart> parts;
    for (std::int64_t expert = 0; expert < shape[0]; ++expert)
        parts.push_back({fmt::format("{}[{}]", tensor, expert), expert, expert * elementCount(row), row});
    return parts;
}

/// How many leading parts two dotted names have in common.
std::size_t commonParts(std::string_view a, std::string_view b) {
    std::size_t parts = 0;
    for (std::size_t i = 0; i < a.size() && i < b.size() && a[i] == b[i]; ++i) parts += a[i] == '.';
    return parts;
}

}  // namespace

std::string_view roleName(Role role) {
    switch (role) {
        case Role::Embedding:
            return "embedding";
        case Role::Lookup:
            return "lookup table";
        case Role::Linear:
            return "linear";
        case Role::Experts:
            return "fused experts";
        case Role::Router:
            return "router";
        case Role::Norm:
            return "norm";
        case Role::Convolution:
            return "convolution";
        case Role::Head:
            return "head";
        case Role::Bias:
            return "bias";
        case Role::Buffer:
            return "buffer";
        case Role::Other:
            return "other";
    }
    return {};
}

std::string_view moduleOf(std::string_view tensor) {
    return tensor.ends_with(kWeightSuffix) ? tensor.substr(0, tensor.size() - kWeightSuffix.size()) : tensor;
}

bool isDerivable(std::string_view tensor, const Shape& shape) {
    return tensor.ends_with("rotary_emb.inv_freq") || tensor.ends_with(".masked_bias") ||
           ((tensor.ends_with(".attn.bias") || tensor.ends_with(".attention.bias")) && shape.size() == 4);
}

void setVocabularySize(Json& config, std::int64_t rows) {
    for (const char* section : kTextSections) {
        const Json::json_pointer place(std::string(section) + "/vocab_size");
        if (config.contains(place)) config[place] = rows;
    }
}

std::optional<bool> saysTied(const Json& config) {
    std::optional<bool> said;
    for (const char* section : kTextSections) {
        const Json* tied = valueAt(config, std::string(section) + "/tie_word_embeddings");
        if (tied != nullptr && tied->is_boolean()) said = said.value_or(false) || tied->get<bool>();
    }
    return said;
}

const Json* findOfText(const Json& config, const char* key) {
    for (const char* section : kTextSections) {
        const Json* values = valueAt(config, section);
        if (values == nullptr || !values->is_object()) continue;
        const auto found = values->find(key);
        if (found != values->end() && !found->is_null()) return &*found;
    }
    return nullptr;
}

bool isTied(const Json& config) {
    const std::optional<bool> said = saysTied(config);
    if (said) return *said;
    return std::ranges::any_of(kTextSections, [&](const char* section) {
        const Json* values = valueAt(config, section);
        return values != nullptr && values->is_object() && isTiedByDefault(textOf(*values, "model_type"));
    });
}

void setUntied(Json& config) {
    for (const char* section : kTextSections) {
        const Json::json_pointer place(std::string(section) + "/tie_word_embeddings");
        if (config.contains(place)) config[place] = false;
    }
    config["tie_word_embeddings"] = false;
}

std::string_view Stack::root() const {
    const std::string_view path = std::string_view(prefix).substr(0, prefix.size() - 1);
    return std::string_view(prefix).substr(0, path.rfind('.') == std::string_view::npos ? 0 : path.rfind('.') + 1);
}

Architecture::Architecture(const Json& config, std::span<const TensorInfo> tensors) {
    modelType_ = textOf(config, "model_type");
    if (const auto classes = config.find("architectures");
        classes != config.end() && classes->is_array() && !classes->empty() && classes->front().is_string())
        className_ = classes->front().get<std::string>();
    family_ = findFamily(modelType_.empty() && className_ == "LlamaForCausalLM" ? "llama" : modelType_);
    hiddenSize_ = numberIn(config, {"hidden_size", "n_embd", "d_model", "dim"});
    experts_ =
        numberIn(config, {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"});
    expertsPerToken_ = numberIn(
        config, {"num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "num_experts_per_topk"});
    vocabularySize_ = numberIn(config, {"vocab_size"});

    stacks_ = findStacks(config, tensors);
    std::vector<std::vector<std::vector<std::string>>> ofLayers;
    for (Stack& stack : stacks_) {
        addImpliedLists(config, modelType_, stack);
        ofLayers.emplace_back(static_cast<std::size_t>(stack.layers));
    }
    for (const TensorInfo& tensor : tensors) {
        const Place place = placeOf(tensor.name);
        if (place.part != Part::Layer) continue;
        const auto layer = static_cast<std::size_t>(place.layer);
        if (layer >= ofLayers[place.stack].size()) continue;
        const std::size_t rest = tensor.name.find('.', stacks_[place.stack].prefix.size());
        ofLayers[place.stack][layer].push_back(tensor.name.substr(rest) + shapeText(tensor.shape));
    }
    for (std::size_t i = 0; i < stacks_.size(); ++i)
        kinds_.push_back(layerKinds(config, family_, stacks_[i], std::move(ofLayers[i])));
    findVocabulary(tensors);
    for (const TensorInfo& tensor : tensors)
        if (const Parameter parameter = describe(tensor); parameter.role == Role::Router)
            routers_.emplace(blockOfRouter(parameter.module), parameter.module);
}

void Architecture::findVocabulary(std::span<const TensorInfo> tensors) {
    const TensorInfo* table = nullptr;
    const auto isBetter = [&](const TensorInfo& tensor) {
        if (table == nullptr) return true;
        const bool hasRows = tensor.shape[0] == vocabularySize_, otherHasRows = table->shape[0] == vocabularySize_;
        return std::tuple(!hasRows, tensor.name.size(), std::string_view(tensor.name)) <
               std::tuple(!otherHasRows, table->name.size(), std::string_view(table->name));
    };
    for (const TensorInfo& tensor : tensors) {
        if (tensor.shape.size() != 2) continue;
        const Place place = placeOf(tensor.name);
        const bool isOfText = place.part == Part::BeforeLayers && place.stack == 0;
        if (isOfText && roleOf(tensor.name, tensor.shape, {}) == Role::Embedding && isBetter(tensor)) table = &tensor;
    }
    if (table == nullptr) return;
    embedding_ = table->name;
    vocabularySize_ = table->shape[0];
    head_ = kHeads.front();
    for (const std::string_view name : kHeads)
        if (std::ranges::any_of(tensors, [&](const TensorInfo& tensor) { return tensor.name == name; })) {
            head_ = name;
            break;
        }
}

std::optional<std::size_t> Architecture::findStack(std::string_view name) const {
    const auto found = std::ranges::find(stacks_, name, &Stack::name);
    if (found == stacks_.end()) return std::nullopt;
    return static_cast<std::size_t>(found - stacks_.begin());
}

Place Architecture::placeOf(std::string_view tensor) const {
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
        const Stack& stack = stacks_[i];
        if (!tensor.starts_with(stack.prefix)) continue;
        const auto name = firstNumber(tensor);
        if (!name || name->prefix.size() != stack.prefix.size()) continue;
        const std::int64_t behind = name->number - stack.layers;
        if (behind >= 0 && behind < stack.predictionLayers) return {Part::Prediction, i, behind};
        return {Part::Layer, i, name->number};
    }
    return placeOutsideLayers(tensor);
}

Place Architecture::placeOutsideLayers(std::string_view tensor) const {
    if (isPredictionModule(tensor) && !stacks_.empty()) return {.part = Part::Prediction};
    const bool isBehind =
        family_ && std::ranges::find(family_->behindLayers, moduleOf(tensor)) != family_->behindLayers.end();
    const Part part = isBehind ? Part::BehindLayers : partOutsideLayers(tensor);
    if (stacks_.empty()) return {.part = part};
    // It belongs to the stack whose names it shares; where none is nearer, to the one that makes text.
    std::size_t nearest = 0, most = 0;
    bool isTied = false;
    for (std::size_t i = 0; i < stacks_.size(); ++i) {
        const std::size_t common = commonParts(tensor, stacks_[i].prefix);
        isTied = i > 0 && (common == most || (isTied && common < most));
        if (common > most) nearest = i, most = common, isTied = false;
    }
    // What is about images or sound, and is of no stack of its own, stands between two.
    const bool isOfOther = isOfAnotherModality(tensor);
    if (isTied && isOfOther) return {};
    if (part == Part::Aside) {
        const bool isOfNone = isTied || most == 0 || (nearest == 0 && isOfOther);
        return isOfNone ? Place{} : Place{.part = part, .stack = nearest, .isWithin = true};
    }
    return {.part = part, .stack = isTied ? 0 : nearest};
}

std::string_view Architecture::nameInLayer(std::string_view module, const Place& place) const {
    const std::size_t dot = module.find('.', stacks_[place.stack].prefix.size());
    return dot == std::string_view::npos ? std::string_view() : module.substr(dot + 1);
}

std::optional<int> Architecture::inputAxisOfExperts(const Shape& shape, bool hasExpertsOwnInput) const {
    const bool firstIsHidden = shape[1] == hiddenSize_, lastIsHidden = shape[2] == hiddenSize_;
    const bool shapeTells = hiddenSize_ > 0 && firstIsHidden != lastIsHidden;
    // The hidden state enters gate and up, and leaves down.
    if (shapeTells) return lastIsHidden != hasExpertsOwnInput ? -1 : -2;
    if (family_ == nullptr || family_->expertLayout == ExpertLayout::Either) return std::nullopt;
    return family_->expertLayout == ExpertLayout::InOut ? -2 : -1;
}

Parameter Architecture::describe(std::string_view tensor, const Shape& shape) const {
    Parameter parameter;
    parameter.place = placeOf(tensor);
    const bool isInLayer = parameter.place.part == Part::Layer || parameter.place.part == Part::Prediction;
    parameter.role = roleOf(tensor, shape, {vocabularySize_, experts_, isInLayer});
    parameter.module = moduleOf(tensor);
    parameter.expert = expertOf(tensor);
    const bool isOfHead = parameter.role == Role::Bias && !isInLayer && parameter.place.part == Part::BehindLayers;
    parameter.hasVocabularyRows = !shape.empty() && vocabularySize_ > 0 && !embedding_.empty() &&
                                  shape[vocabularyAxis(shape)] == vocabularySize_ &&
                                  (parameter.role == Role::Embedding || parameter.role == Role::Head || isOfHead);
    if (tensor == embedding_ || tensor == head_)
        parameter.hasVocabularyRows = true;  // with other rows in an input or the output
    parameter.hasExpertsOwnInput = isLastOfMlp(parameter.module);
    if (parameter.role == Role::Experts) {
        const std::optional<int> axis = inputAxisOfExperts(shape, parameter.hasExpertsOwnInput);
        parameter.inputAxisIsKnown = axis.has_value();
        parameter.inputAxis = axis.value_or(-1);
    } else if (parameter.place.isNumbered()) {
        const std::string_view inLayer = nameInLayer(parameter.module, parameter.place);
        if (const LinearModule* module = findModule(family_, inLayer)) parameter.inputAxis = module->inputAxis;
        const bool isKnownNorm = family_ && std::ranges::find(family_->norms, inLayer) != family_->norms.end();
        if (isKnownNorm && moduleOf(tensor).size() < tensor.size()) parameter.role = Role::Norm;
    }
    return parameter;
}

double Architecture::shareOfTokens(const Parameter& parameter) const {
    const bool isOfExperts = parameter.role == Role::Experts || parameter.expert >= 0;
    return isOfExperts && experts_ > 0 && expertsPerToken_ > 0
               ? static_cast<double>(expertsPerToken_) / static_cast<double>(experts_)
               : 1;
}

std::string Architecture::withLayer(std::string_view tensor, std::int64_t layer) const {
    const std::string& prefix = stacks_[placeOf(tensor).stack].prefix;
    return prefix + std::to_string(layer) + std::string(tensor.substr(tensor.find('.', prefix.size())));
}

Architecture::Order Architecture::orderOf(std::string_view tensor) const {
    enum { kBefore, kLayers, kNorm, kHead, kRest };
    const Place place = placeOf(tensor);
    const bool isOfFirst = place.stack == 0;
    if (place.isNumbered()) {
        const std::int64_t behind = place.part == Part::Prediction ? stacks_[place.stack].layers : 0;
        return {isOfFirst ? kLayers : kRest, place.stack, place.layer + behind};
    }
    if (isOfFirst && place.part == Part::BeforeLayers) return {kBefore};
    if (isOfFirst && place.part == Part::BehindLayers) {
        if (moduleOf(tensor) == moduleOf(head_)) return {kHead};
        if (roleOf(tensor, {1}, {}) == Role::Norm) return {kNorm};
    }
    return {kRest};
}

Architecture Architecture::withLayerCount(std::size_t stack, std::int64_t layers) const {
    Architecture changed = *this;
    changed.stacks_.at(stack).layers = layers;
    return changed;
}

std::vector<MatrixPart> Architecture::partsOf(std::string_view tensor, const Shape& shape) const {
    const Parameter parameter = describe(tensor, shape);
    const bool isOfExperts =
        experts_ > 1 && shape.size() > 1 && shape[0] == experts_ && tensor.find("experts.") != std::string_view::npos;
    if (parameter.role == Role::Bias && isOfExperts) return rowsOf(tensor, shape);
    if (parameter.role != Role::Experts || shape[0] != experts_) return {};
    const std::int64_t experts = shape[0], rows = shape[1], columns = shape[2], elements = rows * columns;
    const std::size_t at = tensor.rfind("experts.");
    const std::string_view name = parameter.module, kind = name.substr(name.rfind('.') + 1);
    const bool hasSeparateForm = at != std::string_view::npos && parameter.inputAxis == -1 && parameter.inputAxisIsKnown;
    // Rows of gate, then rows of up: two matrices of a checkpoint with a tensor for each.
    const bool isGateAndUp = hasSeparateForm && kind == "gate_up_proj" && rows % 2 == 0;
    std::vector<MatrixPart> parts;
    for (std::int64_t expert = 0; expert < experts; ++expert) {
        const std::string prefix = hasSeparateForm ? fmt::format("{}experts.{}.", tensor.substr(0, at), expert) : "";
        if (isGateAndUp) {
            parts.push_back({prefix + "gate_proj.weight", expert, expert * elements, {rows / 2, columns}});
            parts.push_back({prefix + "up_proj.weight", expert, expert * elements + elements / 2, {rows / 2, columns}});
        } else {
            parts.push_back(
                {hasSeparateForm ? fmt::format("{}{}.weight", prefix, kind) : fmt::format("{}[{}]", tensor, expert),
                 expert,
                 expert * elements,
                 {rows, columns}});
        }
    }
    return parts;
}

std::string Architecture::moduleWithSameInput(std::string_view module) const {
    const Place place = placeOf(module);
    if (place.part != Part::Layer) return std::string(module);
    const std::string_view inLayer = nameInLayer(module, place);
    const LinearModule* own = findModule(family_, inLayer);
    if (own == nullptr) return std::string(module);
    return std::string(module.substr(0, module.size() - inLayer.size())).append(firstWithInput(*family_, own->input).name);
}

std::string Architecture::routerOf(std::string_view module) const {
    if (family_ && family_->scalesExpertInputs) return {};
    for (std::size_t end = module.rfind('.'); end != std::string_view::npos && end > 0; end = module.rfind('.', end - 1)) {
        const auto found = routers_.find(std::string(module.substr(0, end)));
        if (found != routers_.end()) return found->second;
        if (placeOf(fmt::format("{}.", module.substr(0, end))).part != Part::Layer) break;
    }
    return {};
}

}  // namespace aimerge
