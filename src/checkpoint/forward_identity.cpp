#include "aimerge/checkpoint/forward_identity.h"

#include "aimerge/architecture/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <string_view>

namespace aimerge {
namespace {

using Config = nlohmann::ordered_json;
using Identity = nlohmann::json;  // its keys are sorted

/// Keys that say nothing about the forward pass, in any section.
constexpr std::array<std::string_view, 39> kOtherKeys{"_attn_implementation",
                                                      "_attn_implementation_autoset",
                                                      "_attn_implementation_internal",
                                                      "_commit_hash",
                                                      "_experts_implementation",
                                                      "_name_or_path",
                                                      "architectures",
                                                      "attn_implementation",
                                                      "auto_map",
                                                      "chunk_size_feed_forward",
                                                      "dtype",
                                                      "finetuning_task",
                                                      "gradient_checkpointing",
                                                      "id2label",
                                                      "initializer_factor",
                                                      "initializer_range",
                                                      "label2id",
                                                      "name_or_path",
                                                      "num_labels",
                                                      "output_attentions",
                                                      "output_hidden_states",
                                                      "output_past",
                                                      "output_router_logits",
                                                      "output_scores",
                                                      "problem_type",
                                                      "return_dict",
                                                      "return_dict_in_generate",
                                                      "router_aux_loss_coef",
                                                      "router_jitter_noise",
                                                      "router_z_loss_coef",
                                                      "task_specific_params",
                                                      "tie_encoder_decoder",
                                                      "tie_word_embeddings",
                                                      "tokenizer_class",
                                                      "torch_dtype",
                                                      "torchscript",
                                                      "transformers_version",
                                                      "use_cache",
                                                      "use_return_dict"};

bool decidesForward(std::string_view key) {
    const auto contains = [&](std::string_view part) { return key.find(part) != std::string_view::npos; };
    if (key.ends_with("_token_id") || key.ends_with("_token_ids")) return false;
    if (contains("dropout") || contains("pdrop") || contains("layerdrop")) return false;
    return std::ranges::find(kOtherKeys, key) == kOtherKeys.end();
}

/// 10000 and 10000.0 are one number.
Identity normalNumber(const Config& number) {
    constexpr double kLargestExact = 9007199254740992;  // 2^53
    const auto value = number.get<double>();
    if (!number.is_number_float() || std::trunc(value) != value || std::abs(value) > kLargestExact)
        return Identity::parse(number.dump());
    return static_cast<std::int64_t>(value);
}

Identity withoutOtherKeys(const Config& value) {
    if (value.is_number()) return normalNumber(value);
    if (value.is_array()) {
        Identity list = Identity::array();
        for (const Config& entry : value) list.push_back(withoutOtherKeys(entry));
        return list;
    }
    if (!value.is_object()) return Identity(value);
    Identity section = Identity::object();
    for (const auto& [key, entry] : value.items())
        if (decidesForward(key)) section[key] = withoutOtherKeys(entry);
    return section;
}

/// The values that the rope type uses; for an unknown type, all of them.
Identity ropeIdentity(const ModelConfig& config) {
    const RopeScaling& rope = config.rope;
    const bool isYarn = rope.type == "yarn", isLongrope = rope.type == "longrope", isLlama3 = rope.type == "llama3";
    const bool isOther =
        !isYarn && !isLongrope && !isLlama3 && rope.type != "default" && rope.type != "linear" && rope.type != "dynamic";
    Identity identity = {{"rope_theta", config.ropeTheta}, {"rope_type", rope.type}};
    const auto set = [&](bool counts, const char* key, const auto& value) {
        if (counts) identity[key] = value;
    };
    set(rope.rotatedShare != 1, "partial_rotary_factor", rope.rotatedShare);
    set(rope.type != "default" && rope.factor > 0, "factor", rope.factor);
    set(isLlama3 || isYarn || isLongrope || isOther, "original_max_position_embeddings", rope.originalPositions);
    set(isLlama3 || isOther, "low_freq_factor", rope.lowFrequencyFactor);
    set(isLlama3 || isOther, "high_freq_factor", rope.highFrequencyFactor);
    set(isYarn || isOther, "beta_fast", rope.betaFast);
    set(isYarn || isOther, "beta_slow", rope.betaSlow);
    set((isYarn || isLongrope || isOther) && rope.attentionFactor > 0, "attention_factor", rope.attentionFactor);
    set((isYarn || isOther) && rope.mscale > 0, "mscale", rope.mscale);
    set((isYarn || isOther) && rope.mscaleAllDim > 0, "mscale_all_dim", rope.mscaleAllDim);
    set((isYarn || isOther) && !rope.truncate, "truncate", rope.truncate);
    set(isLongrope || isOther, "short_factor", rope.shortFactors);
    set(isLongrope || isOther, "long_factor", rope.longFactors);
    // Their quotient with the original length stands in for a factor that is not given.
    set(isLongrope && rope.factor == 0, "max_position_embeddings", config.maxPositions);
    return identity;
}

Identity knownIdentity(const Config& json, const ModelConfig& config) {
    Identity identity = {{"model_type", config.modelType.empty() ? "llama" : config.modelType},
                         {"hidden_size", config.hiddenSize},
                         {"intermediate_size", config.intermediateSize},
                         {"num_hidden_layers", config.layers},
                         {"num_attention_heads", config.heads},
                         {"num_key_value_heads", config.keyValueHeads},
                         {"head_dim", config.headDim},
                         {"rms_norm_eps", config.rmsNormEps},
                         {"hidden_act", config.activation},
                         {"attention_bias", config.attentionBias},
                         {"mlp_bias", config.mlpBias},
                         {"rope_parameters (rope_scaling)", ropeIdentity(config)}};
    const bool hasWindows = std::ranges::any_of(config.windows, [](std::int64_t window) { return window > 0; });
    if (hasWindows) identity["sliding_window"] = config.windows;
    if (config.modelType == "gemma2") {
        identity["query_pre_attn_scalar"] = config.attentionScalar;
        identity["attn_logit_softcapping"] = config.attentionSoftcap;
        identity["final_logit_softcapping"] = config.logitSoftcap;
    }
    if (config.quantized) identity["quantization_config"] = withoutOtherKeys(json.at("quantization_config"));
    return identity;
}

Identity identityOf(const Config& config) {
    const ModelConfig parsed = parseModelConfig(config, "config.json");
    const std::string_view type =
        parsed.modelType.empty() && parsed.architecture == "LlamaForCausalLM" ? "llama" : std::string_view(parsed.modelType);
    return isFullyRead(type) ? knownIdentity(config, parsed) : withoutOtherKeys(config);
}

std::string textOf(const Identity& identity) {
    return identity.dump(-1, ' ', false, Identity::error_handler_t::replace);
}

std::string shortText(const Identity* value) {
    constexpr std::size_t kLongest = 80;
    if (value == nullptr) return "absent";
    const std::string text = value->dump(-1, ' ', true, Identity::error_handler_t::replace);
    return text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
}

const Identity* find(const Identity& section, const std::string& key) {
    const auto found = section.find(key);
    return found == section.end() ? nullptr : &*found;
}

/// Types come first: what else differs follows from them.
struct ByKey {
    bool operator()(const std::string& a, const std::string& b) const {
        const bool isType = a.ends_with("type"), isOtherType = b.ends_with("type");
        return isType != isOtherType ? isType : a < b;
    }
};

/// @pre both are sections, and differ
ForwardDifference differenceOf(const Identity& first, const Identity& second) {
    std::map<std::string, std::pair<const Identity*, const Identity*>, ByKey> entries;
    for (const auto& [key, value] : first.items()) entries[key] = {&value, find(second, key)};
    for (const auto& [key, value] : second.items()) entries[key] = {find(first, key), &value};
    for (const auto& [key, values] : entries) {
        const auto& [one, other] = values;
        if (one && other && *one == *other) continue;
        if (!one || !other || !one->is_object() || !other->is_object()) return {key, shortText(one), shortText(other)};
        ForwardDifference within = differenceOf(*one, *other);
        within.key.insert(0, key + ".");
        return within;
    }
    return {};
}

void addStatedDifferences(const std::string& prefix, const Identity& first, const Identity& second,
                          std::vector<ForwardDifference>& differences) {
    for (const auto& [key, value] : first.items()) {
        const Identity* other = find(second, key);
        if (other == nullptr || other->is_null() || value.is_null() || *other == value) continue;
        if (value.is_object() && other->is_object())
            addStatedDifferences(prefix + key + ".", value, *other, differences);
        else
            differences.push_back({prefix + key, shortText(&value), shortText(other)});
    }
}

/// rope_theta, rope_scaling and rope_local_base_freq of transformers 4 as the rope_parameters of transformers 5, in every
/// section. With layers of two kinds these are {"full_attention": {...}, "sliding_attention": {...}}.
void uniteRope(Identity& section, bool hasKinds) {
    for (auto& [key, value] : section.items())
        if (value.is_object() && key != "rope_parameters" && key != "rope_scaling") uniteRope(value, hasKinds);
    Identity all = section.value("rope_parameters", Identity::object());
    const bool isOfKinds = all.is_object() && std::ranges::any_of(all, &Identity::is_object);
    Identity full = isOfKinds || !all.is_object() ? Identity::object() : all;
    if (const Identity* scaling = find(section, "rope_scaling"); scaling && scaling->is_object()) full.update(*scaling);
    if (const Identity* theta = find(section, "rope_theta"); theta && !full.contains("rope_theta"))
        full["rope_theta"] = *theta;
    if (full.contains("type") && !full.contains("rope_type")) full["rope_type"] = full["type"];
    full.erase("type");
    if (hasKinds && !isOfKinds) {
        all = {{"full_attention", full}};
        if (const Identity* local = find(section, "rope_local_base_freq"))
            all["sliding_attention"] = {{"rope_theta", *local}, {"rope_type", "default"}};
    } else if (!isOfKinds) {
        all = full;
    }
    for (const char* key : {"rope_theta", "rope_scaling", "rope_local_base_freq", "rope_parameters"}) section.erase(key);
    if (!all.empty()) section["rope_parameters"] = std::move(all);
}

bool hasRopeOfKinds(const Identity& section) {
    const Identity* rope = find(section, "rope_parameters");
    if (rope && rope->is_object() && std::ranges::any_of(*rope, &Identity::is_object)) return true;
    return std::ranges::any_of(section, [](const Identity& value) { return value.is_object() && hasRopeOfKinds(value); });
}

}  // namespace

std::string forwardIdentity(const Config& config) {
    return textOf(identityOf(config));
}

std::optional<ForwardDifference> forwardDifference(const Config& first, const Config& second) {
    const Identity one = identityOf(first), other = identityOf(second);
    if (one == other) return std::nullopt;
    return differenceOf(one, other);
}

std::vector<ForwardDifference> statedDifferences(const Config& first, const Config& second) {
    Identity one = withoutOtherKeys(first), other = withoutOtherKeys(second);
    const bool hasKinds = hasRopeOfKinds(one) || hasRopeOfKinds(other);
    uniteRope(one, hasKinds);
    uniteRope(other, hasKinds);
    std::vector<ForwardDifference> differences;
    addStatedDifferences("", one, other, differences);
    return differences;
}

}  // namespace aimerge
