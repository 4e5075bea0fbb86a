#include "adapter_config.h"

#include "aimerge/checkpoint/peft_merge.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/safetensors/strict_json.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBaseKey = "base_model_name_or_path";

// What PEFT takes where the file says nothing.
constexpr std::int64_t kDefaultRank = 8;
constexpr double kDefaultAlpha = 8;

/// Settings of LoRA whose formula is PEFT's own affair: it merges them itself.
constexpr const char* kMergedByPeft[] = {"lora_bias", "use_qalora", "use_bdlora", "kasa_config", "monteclora_config"};

/// Settings under which an adapter acts behind certain tokens alone, or chooses among others by the text.
constexpr const char* kDependOnText[] = {"alora_invocation_tokens", "arrow_config"};

/// Kinds that give the model inputs of their own instead of other weights.
constexpr const char* kWithoutWeights[] = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT",
                                           "CARTRIDGE",     "ADAPTION_PROMPT"};

/// Kinds that aimerge merges as it reads. LN_TUNING stores norms in full.
constexpr const char* kLora = "LORA";
constexpr const char* kTrainableTokens = "TRAINABLE_TOKENS";
constexpr const char* kLayerNorms = "LN_TUNING";

/// Initialisations that leave the base's weights as they are. The others (PiSSA, OLoRA, CorDA, LoftQ, ...) change them when
/// PEFT attaches the adapter.
constexpr const char* kHarmlessInitialisations[] = {"gaussian", "eva", "orthogonal"};

/// Null is the same as absent.
const Json* findKey(const Json& config, const char* key) {
    const auto value = config.find(key);
    return value == config.end() || value->is_null() ? nullptr : &*value;
}

bool isOff(const Json& value) {
    return value.is_null() || value == false || (value.is_structured() && value.empty());
}

bool isFiniteNumber(const Json& value) {
    return value.is_number() && std::isfinite(value.get<double>());
}

bool isRank(const Json& value) {
    return value.is_number_integer() && value.get<std::int64_t>() >= 1 &&
           value.get<std::int64_t>() <= std::numeric_limits<std::int32_t>::max();
}

bool endsWithModule(const std::string& module, const std::string& end) {
    return module == end || module.ends_with("." + end);
}

}  // namespace

void AdapterConfig::refuse(const char* key, const std::string& expected) const {
    const Json* value = findKey(json_, key);
    throw InputError("{}: {} is {}, expected {}", file_, key,
                     value ? value->dump(-1, ' ', false, Json::error_handler_t::replace) : "missing", expected);
}

std::regex AdapterConfig::compile(const char* key, const std::string& expression) const {
    try {
        return std::regex(expression);
    } catch (const std::regex_error&) {
        throw InputError("{}: {} has \"{}\", which is no regular expression that aimerge understands", file_, key,
                         expression);
    }
}

std::vector<AdapterConfig::Pattern> AdapterConfig::readPatterns(const char* key, bool wholeNumbers) const {
    std::vector<Pattern> patterns;
    const Json* object = findKey(json_, key);
    if (!object) return patterns;
    const char* const expected =
        wholeNumbers ? "an object of module names and whole numbers of at least 1" : "an object of module names and numbers";
    if (!object->is_object()) refuse(key, expected);
    for (const auto& [name, value] : object->items()) {
        if (!(wholeNumbers ? isRank(value) : isFiniteNumber(value))) refuse(key, expected);
        patterns.push_back({compile(key, "(.*\\.)?(" + name + ")"), value.get<double>()});
    }
    return patterns;
}

std::vector<std::string> AdapterConfig::readNames(const char* key) const {
    std::vector<std::string> names;
    const Json* list = findKey(json_, key);
    if (!list) return names;
    if (!list->is_array()) refuse(key, "a list of module names");
    for (const Json& name : *list) {
        if (!name.is_string()) refuse(key, "a list of module names");
        names.push_back(name.get<std::string>());
    }
    return names;
}

std::optional<AdapterConfig::Selection> AdapterConfig::readSelection(const char* key) const {
    const Json* value = findKey(json_, key);
    if (!value || *value == "all-linear") return std::nullopt;
    if (value->is_string()) return Selection{{}, compile(key, value->get<std::string>())};
    return Selection{readNames(key), std::nullopt};
}

bool AdapterConfig::Selection::matches(const std::string& module) const {
    if (regex) return std::regex_match(module, *regex);
    return std::ranges::any_of(ends, [&](const std::string& end) { return endsWithModule(module, end); });
}

void AdapterConfig::readLayers() {
    constexpr const char* kLayers = "layers_to_transform";
    constexpr const char* kExpected = "the number of a layer, or a list of them";
    if (const Json* layers = findKey(json_, kLayers)) {
        for (const Json& layer : layers->is_array() ? *layers : Json::array({*layers})) {
            if (!layer.is_number_integer()) refuse(kLayers, kExpected);
            layers_.push_back(layer.get<std::int64_t>());
        }
    }
    constexpr const char* kPatterns = "layers_pattern";
    const Json* patterns = findKey(json_, kPatterns);
    const std::vector<std::string> names =
        patterns && patterns->is_string() ? std::vector{patterns->get<std::string>()} : readNames(kPatterns);
    for (const std::string& name : names)
        layerPatterns_.push_back(compile(kPatterns, "(?:|.*?\\.)(?:" + name + ")\\.(\\d{1,9})\\..*"));
    if (names.empty()) layerPatterns_.emplace_back(".*?\\.[^.]*\\.(\\d{1,9})\\..*");
}

AdapterConfig AdapterConfig::parse(const std::filesystem::path& path) {
    AdapterConfig config;
    config.file_ = path.string();
    config.json_ = parseStrictJson<Json>(readTextFile(path), config.file_);
    const Json* kind = findKey(config.json_, "peft_type");
    if (!kind || !kind->is_string()) config.refuse("peft_type", "the kind of the adapter, such as \"LORA\"");
    return config;
}

bool AdapterConfig::isMergedByPeft() const {
    return findKey(json_, kMergedByKey) != nullptr;
}

std::string AdapterConfig::findReasonForPeft() const {
    const std::string kind = json_.at("peft_type");
    if (isMergedByPeft() || kind == kTrainableTokens || kind == kLayerNorms) return "";
    if (kind != kLora) return fmt::format("peft_type \"{}\"", kind);
    for (const char* key : kMergedByPeft)
        if (const Json* value = findKey(json_, key); value && !isOff(*value))
            return fmt::format("{} {}", key, value->dump());
    return "";
}

void AdapterConfig::refuseUnmergeable() const {
    const std::string kind = json_.at("peft_type");
    if (std::ranges::find(kWithoutWeights, kind) != std::end(kWithoutWeights))
        refuse("peft_type",
               "a kind that changes weights: this one gives the model inputs of its own and leaves all weights as they are, "
               "so there is nothing to merge");
    const auto isOn = [&](const char* key) {
        const Json* value = findKey(json_, key);
        return value && !isOff(*value);
    };
    for (const char* key : kDependOnText)
        if (isOn(key)) refuse(key, "it off: what such an adapter does depends on the text, which no weights can do");
    if (isOn("layer_replication"))
        refuse("layer_replication", "it off: merge this adapter into its base with PEFT (merge_and_unload)");
    const Json* initialisation = findKey(json_, "init_lora_weights");
    if (initialisation && !initialisation->is_boolean() &&
        std::ranges::none_of(kHarmlessInitialisations, [&](const char* name) { return *initialisation == name; }))
        refuse("init_lora_weights",
               "true: this initialisation changes the base's weights; convert the adapter to plain LoRA (PEFT: "
               "save_pretrained with path_initial_model_for_weight_conversion)");
}

std::string AdapterConfig::reasonForPeft(const std::filesystem::path& path) {
    const AdapterConfig config = parse(path);
    if (!config.isMergedByPeft()) config.refuseUnmergeable();
    return config.findReasonForPeft();
}

AdapterConfig AdapterConfig::read(const std::filesystem::path& path) {
    AdapterConfig config = parse(path);
    if (config.isMergedByPeft()) {
        if (const Json* base = findKey(config.json_, kBaseKey); base && base->is_string()) config.trainedOn_ = *base;
        config.modulesToSave_ = config.readNames("modules_to_save");
        return config;
    }
    config.refuseUnmergeable();
    if (const std::string reason = config.findReasonForPeft(); !reason.empty())
        throw InputError("{}: {}: only PEFT merges such an adapter, into a base that it is given with (BASE+ADAPTER)",
                         config.file_, reason);
    config.readSettings();
    return config;
}

void AdapterConfig::readSettings() {
    const auto setting = [&](const char* key, auto fallback, auto isValid, const char* expected) {
        const Json* value = findKey(json_, key);
        if (!value) return fallback;
        if (!isValid(*value)) refuse(key, expected);
        return value->get<decltype(fallback)>();
    };
    const auto isFlag = [](const Json& value) { return value.is_boolean(); };
    const auto isText = [](const Json& value) { return value.is_string(); };
    constexpr const char* kBiases = "\"none\", \"all\" or \"lora_only\"";
    const std::string bias = setting("bias", std::string("none"), isText, kBiases);
    if (bias != "none" && bias != "all" && bias != "lora_only") refuse("bias", kBiases);

    trainedOn_ = setting(kBaseKey, std::string(), isText, "a name");
    rank_ = setting("r", kDefaultRank, isRank, "a whole number of at least 1");
    alpha_ = setting("lora_alpha", kDefaultAlpha, isFiniteNumber, "a number");
    rankStabilized_ = setting("use_rslora", false, isFlag, "true or false");
    fanInFanOut_ = setting("fan_in_fan_out", false, isFlag, "true or false");
    usesDora_ = setting("use_dora", false, isFlag, "true or false");
    tiesWeights_ = setting("ensure_weight_tying", false, isFlag, "true or false");
    ranks_ = readPatterns("rank_pattern", true);
    alphas_ = readPatterns("alpha_pattern", false);
    modulesToSave_ = readNames("modules_to_save");
    targetParameters_ = readNames("target_parameters");
    targets_ = readSelection("target_modules");
    excluded_ = readSelection("exclude_modules");
    readLayers();
}

std::int64_t AdapterConfig::rankOf(const std::string& module) const {
    const auto fits = [&](const Pattern& pattern) { return std::regex_match(module, pattern.regex); };
    const auto pattern = std::ranges::find_if(ranks_, fits);
    return pattern == ranks_.end() ? rank_ : static_cast<std::int64_t>(pattern->value);
}

double AdapterConfig::scalingOf(const std::string& module) const {
    const auto fits = [&](const Pattern& pattern) { return std::regex_match(module, pattern.regex); };
    const auto pattern = std::ranges::find_if(alphas_, fits);
    const double alpha = pattern == alphas_.end() ? alpha_ : pattern->value;
    const auto rank = static_cast<double>(rankOf(module));
    return alpha / (rankStabilized_ ? std::sqrt(rank) : rank);
}

bool AdapterConfig::isLayerChosen(const std::string& module) const {
    // PEFT asks for the layer only where a module is chosen by the end of its name.
    if (layers_.empty() || !targets_ || targets_->regex) return true;
    if (std::ranges::find(targets_->ends, module) != targets_->ends.end()) return true;
    for (const std::regex& pattern : layerPatterns_) {
        std::smatch match;
        if (std::regex_match(module, match, pattern))
            return std::ranges::find(layers_, std::stoll(match[1].str())) != layers_.end();
    }
    return false;
}

std::string_view AdapterConfig::keyThatExcludes(const std::string& module) const {
    if (excluded_ && excluded_->matches(module)) return "exclude_modules";
    // target_modules names one of two tied modules, and PEFT adapts the other with it.
    if (targets_ && !targets_->matches(module)) return tiesWeights_ ? "" : "target_modules";
    return isLayerChosen(module) ? "" : "layers_to_transform";
}

std::vector<TargetParameter> AdapterConfig::targetParametersOf(const std::string& module) const {
    std::vector<TargetParameter> parameters;
    for (const std::string& target : targetParameters_) {
        const std::size_t dot = target.rfind('.');
        if (dot != std::string::npos && !endsWithModule(module, target.substr(0, dot))) continue;
        const std::string name = target.substr(dot + 1);  // npos + 1 is 0
        const std::string key = module + "." + name;
        if (std::ranges::find(parameters, name, &TargetParameter::name) == parameters.end())
            parameters.push_back({name, rankOf(key), scalingOf(key)});
    }
    if (!parameters.empty() && !targets_) parameters.push_back({"weight", rankOf(module), scalingOf(module)});
    return parameters;
}

bool AdapterConfig::targetsInAxisOrder() const {
    // The first version that writes its number is 0.18.
    const Json* version = findKey(json_, "peft_version");
    return version == nullptr || (version->is_string() && version->get<std::string>().starts_with("0.18."));
}

std::vector<std::int64_t> AdapterConfig::readTokens(const char* key, const Json& list) const {
    std::vector<std::int64_t> tokens;
    for (const Json& token : list) {
        if (!token.is_number_integer() || token.get<std::int64_t>() < 0) refuse(key, "numbers of tokens, from 0");
        tokens.push_back(token.get<std::int64_t>());
    }
    std::vector<std::int64_t> sorted = tokens;
    std::ranges::sort(sorted);
    if (std::ranges::adjacent_find(sorted) != sorted.end()) refuse(key, "no token twice");
    return tokens;
}

std::vector<std::int64_t> AdapterConfig::tokensOf(const std::string& module) const {
    for (const char* key : {"trainable_token_indices", "token_indices"}) {
        const Json* tokens = findKey(json_, key);
        if (!tokens) continue;
        if (tokens->is_array()) return readTokens(key, *tokens);
        if (!tokens->is_object()) refuse(key, "a list of token numbers, or such a list for each module");
        for (const auto& [end, list] : tokens->items())
            if (endsWithModule(module, end)) return readTokens(key, list);
    }
    return {};
}

}  // namespace aimerge
