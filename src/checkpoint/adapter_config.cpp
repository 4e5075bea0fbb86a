#include "adapter_config.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "safetensors/strict_json.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

// What PEFT takes where the file says nothing.
constexpr std::int64_t kDefaultRank = 8;
constexpr double kDefaultAlpha = 8;

/// Settings that make the merged weight something other than W + scaling B A.
constexpr const char* kUnsupported[] = {"use_dora",
                                        "lora_bias",
                                        "use_qalora",
                                        "use_bdlora",
                                        "layer_replication",
                                        "target_parameters",
                                        "kasa_config",
                                        "arrow_config",
                                        "monteclora_config",
                                        "trainable_token_indices",
                                        "alora_invocation_tokens"};

/// Initialisations that leave the base's weights as they are. The others (PiSSA, OLoRA, CorDA, LoftQ, ...) change them when
/// PEFT attaches the adapter.
constexpr const char* kHarmlessInitialisations[] = {"gaussian", "eva", "orthogonal"};

/// Null is the same as absent.
const Json* find(const Json& config, const char* key) {
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
    const Json* value = find(json_, key);
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
    const Json* object = find(json_, key);
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
    const Json* list = find(json_, key);
    if (!list) return names;
    if (!list->is_array()) refuse(key, "a list of module names");
    for (const Json& name : *list) {
        if (!name.is_string()) refuse(key, "a list of module names");
        names.push_back(name.get<std::string>());
    }
    return names;
}

std::optional<AdapterConfig::Selection> AdapterConfig::readSelection(const char* key) const {
    const Json* value = find(json_, key);
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
    if (const Json* layers = find(json_, kLayers)) {
        for (const Json& layer : layers->is_array() ? *layers : Json::array({*layers})) {
            if (!layer.is_number_integer()) refuse(kLayers, kExpected);
            layers_.push_back(layer.get<std::int64_t>());
        }
    }
    constexpr const char* kPatterns = "layers_pattern";
    const Json* patterns = find(json_, kPatterns);
    const std::vector<std::string> names =
        patterns && patterns->is_string() ? std::vector{patterns->get<std::string>()} : readNames(kPatterns);
    for (const std::string& name : names)
        layerPatterns_.push_back(compile(kPatterns, "(?:|.*?\\.)(?:" + name + ")\\.(\\d{1,9})\\..*"));
    if (names.empty()) layerPatterns_.emplace_back(".*?\\.[^.]*\\.(\\d{1,9})\\..*");
}

AdapterConfig AdapterConfig::read(const std::filesystem::path& path) {
    AdapterConfig config;
    config.file_ = path.string();
    config.json_ = parseStrictJson<Json>(readTextFile(path), config.file_);
    const Json& json = config.json_;
    const auto setting = [&](const char* key, auto fallback, auto isValid, const char* expected) {
        const Json* value = find(json, key);
        if (!value) return fallback;
        if (!isValid(*value)) config.refuse(key, expected);
        return value->get<decltype(fallback)>();
    };
    const auto isFlag = [](const Json& value) { return value.is_boolean(); };
    const auto isText = [](const Json& value) { return value.is_string(); };

    if (setting("peft_type", std::string(), isText, "\"LORA\"") != "LORA")
        config.refuse("peft_type", "\"LORA\": adapters of other kinds cannot be merged");
    for (const char* key : kUnsupported) {
        const Json* value = find(json, key);
        if (value && !isOff(*value))
            config.refuse(key, "it off: merge this adapter into its base with PEFT (merge_and_unload)");
    }
    if (setting("bias", std::string("none"), isText, "\"none\"") != "none")
        config.refuse("bias", "\"none\": merge this adapter into its base with PEFT (merge_and_unload)");
    const Json* initialisation = find(json, "init_lora_weights");
    if (initialisation && !initialisation->is_boolean() &&
        std::ranges::none_of(kHarmlessInitialisations, [&](const char* name) { return *initialisation == name; }))
        config.refuse("init_lora_weights",
                      "true: this initialisation changes the base's weights; convert the adapter to plain LoRA (PEFT: "
                      "save_pretrained with path_initial_model_for_weight_conversion)");

    config.trainedOn_ = setting("base_model_name_or_path", std::string(), isText, "a name");
    config.rank_ = setting("r", kDefaultRank, isRank, "a whole number of at least 1");
    config.alpha_ = setting("lora_alpha", kDefaultAlpha, isFiniteNumber, "a number");
    config.rankStabilized_ = setting("use_rslora", false, isFlag, "true or false");
    config.fanInFanOut_ = setting("fan_in_fan_out", false, isFlag, "true or false");
    config.ranks_ = config.readPatterns("rank_pattern", true);
    config.alphas_ = config.readPatterns("alpha_pattern", false);
    config.modulesToSave_ = config.readNames("modules_to_save");
    config.targets_ = config.readSelection("target_modules");
    config.excluded_ = config.readSelection("exclude_modules");
    config.readLayers();
    return config;
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
    if (targets_ && !targets_->matches(module)) return "target_modules";
    return isLayerChosen(module) ? "" : "layers_to_transform";
}

}  // namespace aimerge
