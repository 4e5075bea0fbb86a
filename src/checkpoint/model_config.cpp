#include "aimerge/checkpoint/model_config.h"

#include "aimerge/core/error.h"

#include <cmath>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

/// Reads typed values of one JSON object. `strict` is for models of the Llama architecture, whose keys are known to have
/// these types; elsewhere a value of another type counts as absent.
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

/// Both styles: {"rope_theta", "rope_scaling": {"rope_type" or "type"}} and {"rope_parameters": {"rope_theta",
/// "rope_type"}}.
void readRope(const Json& config, const std::string& fileName, bool strict, ModelConfig& result) {
    const KeyReader top(config, "", fileName, strict);
    result.ropeTheta = top.positive("rope_theta", result.ropeTheta);
    for (const char* section : {"rope_scaling", "rope_parameters"}) {
        const Json* values = top.find(section);
        if (values == nullptr) continue;
        if (!values->is_object()) {
            top.refuse(section, *values, "an object", 0);
            continue;
        }
        const KeyReader reader(*values, std::string(section) + ".", fileName, strict);
        result.ropeType = reader.text("rope_type", reader.text("type", result.ropeType));
        result.ropeTheta = reader.positive("rope_theta", result.ropeTheta);
    }
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
        throw InputError("{}: says neither architectures nor model_type, so it is no config of a model", fileName);

    const bool isLlama = result.architecture == "LlamaForCausalLM" || result.modelType == "llama";
    const KeyReader reader(config, "", fileName, isLlama);
    result.hiddenSize = reader.requiredCount("hidden_size");
    result.intermediateSize = reader.requiredCount("intermediate_size");
    result.layers = reader.requiredCount("num_hidden_layers");
    result.heads = reader.requiredCount("num_attention_heads");
    result.vocabSize = reader.requiredCount("vocab_size");
    result.keyValueHeads = reader.count("num_key_value_heads", result.heads);
    result.headDim = reader.count("head_dim", result.heads > 0 ? result.hiddenSize / result.heads : 0);
    result.maxPositions = reader.count("max_position_embeddings", isLlama ? 2048 : 0);
    result.rmsNormEps = reader.positive("rms_norm_eps", result.rmsNormEps);
    readRope(config, fileName, isLlama, result);
    result.tieWordEmbeddings = reader.flag("tie_word_embeddings", false);
    result.attentionBias = reader.flag("attention_bias", false);
    result.mlpBias = reader.flag("mlp_bias", false);
    result.activation = reader.text("hidden_act", result.activation);
    result.dtype = readDtype(reader);
    result.quantized = reader.find("quantization_config") != nullptr;
    return result;
}

}  // namespace aimerge
