#include "aimerge/architecture/model_config.h"

#include "aimerge/architecture/architecture.h"
#include "aimerge/core/error.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>
#include <utility>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

/// What transformers takes for keys that are not there.
struct Defaults {
    std::string_view modelType;
    std::int64_t maxPositions;
    double rmsNormEps = 1e-6;
    std::int64_t slidingWindow = 0;
    std::int64_t headDim = 0;  // 0: hidden / heads
};

constexpr std::array kKnownTypes{
    Defaults{.modelType = "llama", .maxPositions = 2048},
    Defaults{.modelType = "mistral", .maxPositions = 131072, .slidingWindow = 4096},
    Defaults{.modelType = "qwen2", .maxPositions = 32768, .slidingWindow = 4096},
    Defaults{.modelType = "qwen3", .maxPositions = 32768, .slidingWindow = 4096, .headDim = 128},
    Defaults{.modelType = "phi3", .maxPositions = 4096, .rmsNormEps = 1e-5},
    Defaults{.modelType = "gemma2", .maxPositions = 8192, .slidingWindow = 4096, .headDim = 256}};

const Defaults* defaultsOf(std::string_view modelType) {
    const auto* found = std::ranges::find(kKnownTypes, modelType, &Defaults::modelType);
    return found == kKnownTypes.end() ? nullptr : found;
}

/// "llama" of "LlamaForCausalLM", in whatever capitals; empty for classes of types that are not known here.
std::string typeOfClass(const std::string& architecture) {
    constexpr std::string_view kEnd = "ForCausalLM";
    if (!architecture.ends_with(kEnd)) return "";
    std::string type = architecture.substr(0, architecture.size() - kEnd.size());
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return defaultsOf(type) == nullptr ? "" : type;
}

/// Reads typed values of one JSON object. `strict` is for types of models whose keys are known to have these types;
/// elsewhere a value of another type counts as absent.
class KeyReader {
public:
    KeyReader(const Json& object, std::string prefix, const std::string& fileName, bool strict)
        : object_(object), prefix_(std::move(prefix)), fileName_(fileName), strict_(strict) {}

    /// Null is the same as absent in transformers.
    const Json* find(const char* key) const {
        const auto value = object_.find(key);
        return value == object_.end() || value->is_null() ? nullptr : &*value;
    }

    std::int64_t count(const char* key, std::int64_t fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        // What does not fit a positive int32 is no size of a model, and would overflow products.
        if (value->is_number_integer() && value->get<std::int64_t>() > 0 && value->get<std::int64_t>() <= INT32_MAX)
            return value->get<std::int64_t>();
        return refuse(key, *value, "a whole number of at least 1", fallback);
    }

    std::int64_t requiredCount(const char* key) const {
        if (strict_ && find(key) == nullptr)
            throw InputError("{}: {}{} is missing, expected a whole number of at least 1", fileName_, prefix_, key);
        return count(key, 0);
    }

    double positive(const char* key, double fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        if (value->is_number() && value->get<double>() > 0 && std::isfinite(value->get<double>()))
            return value->get<double>();
        return refuse(key, *value, "a number above 0", fallback);
    }

    bool flag(const char* key, bool fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        return value->is_boolean() ? value->get<bool>() : refuse(key, *value, "true or false", fallback);
    }

    std::string text(const char* key, const std::string& fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        return value->is_string() ? value->get<std::string>() : refuse(key, *value, "a string", fallback);
    }

    std::vector<double> positives(const char* key) const {
        const Json* value = find(key);
        if (value == nullptr) return {};
        const auto isPositive = [](const Json& entry) {
            return entry.is_number() && entry.get<double>() > 0 && std::isfinite(entry.get<double>());
        };
        if (!value->is_array() || !std::all_of(value->begin(), value->end(), isPositive))
            return refuse(key, *value, "a list of numbers above 0", std::vector<double>());
        return value->get<std::vector<double>>();
    }

    template <typename Value>
    Value refuse(const char* key, const Json& found, const char* expected, Value fallback) const {
        if (!strict_) return fallback;
        throw InputError("{}: {}{} is {}, expected {}", fileName_, prefix_, key,
                         found.dump(-1, ' ', false, Json::error_handler_t::replace), expected);
    }

private:
    const Json& object_;
    std::string prefix_;
    const std::string& fileName_;
    bool strict_;
};

std::string readArchitecture(const Json& config, const std::string& fileName) {
    const auto list = config.find("architectures");
    if (list == config.end() || list->is_null()) return "";
    if (!list->is_array() || (!list->empty() && !list->front().is_string()))
        throw InputError("{}: architectures is {}, expected a list of class names such as [\"LlamaForCausalLM\"]", fileName,
                         list->dump(-1, ' ', false, Json::error_handler_t::replace));
    return list->empty() ? "" : list->front().get<std::string>();
}

void readScaling(const KeyReader& reader, RopeScaling& rope) {
    rope.type = reader.text("rope_type", reader.text("type", rope.type));
    if (rope.type == "su") rope.type = "longrope";  // as the first Phi-3 called it
    rope.factor = reader.positive("factor", rope.factor);
    rope.lowFrequencyFactor = reader.positive("low_freq_factor", rope.lowFrequencyFactor);
    rope.highFrequencyFactor = reader.positive("high_freq_factor", rope.highFrequencyFactor);
    rope.originalPositions = reader.count("original_max_position_embeddings", rope.originalPositions);
    rope.betaFast = reader.positive("beta_fast", rope.betaFast);
    rope.betaSlow = reader.positive("beta_slow", rope.betaSlow);
    rope.attentionFactor = reader.positive("attention_factor", rope.attentionFactor);
    rope.mscale = reader.positive("mscale", rope.mscale);
    rope.mscaleAllDim = reader.positive("mscale_all_dim", rope.mscaleAllDim);
    rope.truncate = reader.flag("truncate", rope.truncate);
    rope.shortFactors = reader.positives("short_factor");
    rope.longFactors = reader.positives("long_factor");
    rope.rotatedShare = reader.positive("partial_rotary_factor", rope.rotatedShare);
}

/// Both styles: {"rope_theta", "rope_scaling": {"rope_type" or "type"}} and {"rope_parameters": {"rope_theta",
/// "rope_type"}}. Where both are written, rope_scaling counts alone, as in transformers.
void readRope(const Json& config, const std::string& fileName, bool strict, ModelConfig& result) {
    const KeyReader top(config, "", fileName, strict);
    result.ropeTheta = top.positive("rope_theta", result.ropeTheta);
    result.rope.originalPositions = top.count("original_max_position_embeddings", result.rope.originalPositions);
    for (const char* section : {"rope_scaling", "rope_parameters"}) {
        const Json* values = top.find(section);
        if (values == nullptr || values->empty()) continue;
        if (!values->is_object()) {
            top.refuse(section, *values, "an object", 0);
            continue;
        }
        const KeyReader reader(*values, std::string(section) + ".", fileName, strict);
        result.ropeTheta = reader.positive("rope_theta", result.ropeTheta);
        readScaling(reader, result.rope);
        break;
    }
    result.rope.rotatedShare = top.positive("partial_rotary_factor", result.rope.rotatedShare);
}

/// Which layers see a window only: layer_types, else as the type of model has it.
void readWindows(const Json& config, const std::string& fileName, const Defaults& defaults, ModelConfig& result) {
    if (defaults.modelType == "llama") return;
    const KeyReader reader(config, "", fileName, true);
    // Written as null it is none; not written it is the default.
    const std::int64_t window =
        config.contains("sliding_window") ? reader.count("sliding_window", 0) : defaults.slidingWindow;
    const bool isQwen = defaults.modelType.starts_with("qwen");
    if (window == 0 || (isQwen && !reader.flag("use_sliding_window", false))) return;
    result.windows.assign(static_cast<std::size_t>(result.layers), 0);
    const Json* types = reader.find("layer_types");
    if (types && (!types->is_array() || types->size() != result.windows.size()))
        throw InputError("{}: layer_types is no list of {} layers", fileName, result.layers);
    const std::int64_t fullLayers = isQwen ? reader.count("max_window_layers", 28) : 0;
    for (std::size_t layer = 0; layer < result.windows.size(); ++layer) {
        bool slides = defaults.modelType == "gemma2" ? layer % 2 == 0 : std::cmp_greater_equal(layer, fullLayers);
        if (types && defaults.modelType != "mistral" && defaults.modelType != "phi3")
            slides = (*types)[layer] == "sliding_attention";
        if (slides) result.windows[layer] = window;
    }
}

void readGemma(const Json& config, const std::string& fileName, ModelConfig& result) {
    const KeyReader reader(config, "", fileName, true);
    // Written as null it is none; not written it is the default.
    const auto softcap = [&](const char* key, double byDefault) {
        return config.contains(key) ? reader.positive(key, 0) : byDefault;
    };
    result.activation = reader.text("hidden_activation", "gelu_pytorch_tanh");
    result.attentionScalar = reader.positive("query_pre_attn_scalar", 256);
    result.attentionSoftcap = softcap("attn_logit_softcapping", 50);
    result.logitSoftcap = softcap("final_logit_softcapping", 30);
}

std::optional<Dtype> readDtype(const KeyReader& reader) {
    const char* key = reader.find("dtype") != nullptr ? "dtype" : "torch_dtype";
    const std::string name = reader.text(key, "");
    if (name.empty()) return std::nullopt;
    const std::optional<Dtype> dtype = dtypeFromTorchName(name);
    return dtype ? dtype : reader.refuse(key, Json(name), "a torch dtype such as \"bfloat16\"", std::optional<Dtype>());
}

}  // namespace

ModelConfig parseModelConfig(const Json& config, const std::string& fileName) {
    if (!config.is_object()) throw InputError("{}: holds {}, expected a JSON object", fileName, config.type_name());
    ModelConfig result;
    result.architecture = readArchitecture(config, fileName);
    result.modelType = KeyReader(config, "", fileName, true).text("model_type", "");
    if (result.architecture.empty() && result.modelType.empty())
        throw InputError("{}: says neither architectures nor model_type, expected the config.json of a model", fileName);
    if (result.modelType.empty()) result.modelType = typeOfClass(result.architecture);

    const Defaults* known = defaultsOf(result.modelType);
    const KeyReader reader(config, "", fileName, known != nullptr);
    result.hiddenSize = reader.requiredCount("hidden_size");
    result.intermediateSize = reader.requiredCount("intermediate_size");
    result.layers = reader.requiredCount("num_hidden_layers");
    result.heads = reader.requiredCount("num_attention_heads");
    result.vocabSize = reader.requiredCount("vocab_size");
    result.keyValueHeads = reader.count("num_key_value_heads", result.heads);
    const std::int64_t equalShare = result.heads > 0 ? result.hiddenSize / result.heads : 0;
    const bool hasOwnHeadDim = known && known->headDim > 0 && !config.contains("head_dim");
    result.headDim = reader.count("head_dim", hasOwnHeadDim ? known->headDim : equalShare);
    result.maxPositions = reader.count("max_position_embeddings", known ? known->maxPositions : 0);
    result.rmsNormEps = reader.positive("rms_norm_eps", known ? known->rmsNormEps : result.rmsNormEps);
    readRope(config, fileName, known != nullptr, result);
    result.tieWordEmbeddings = reader.flag("tie_word_embeddings", isTied(config));
    result.attentionBias = reader.flag("attention_bias", false);
    result.mlpBias = reader.flag("mlp_bias", false);
    result.activation = reader.text("hidden_act", result.activation);
    if (known) readWindows(config, fileName, *known, result);
    if (result.modelType == "gemma2") readGemma(config, fileName, result);
    result.dtype = readDtype(reader);
    result.quantized = reader.find("quantization_config") != nullptr;
    return result;
}

}  // namespace aimerge
