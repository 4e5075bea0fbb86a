#include "aimerge/architecture/model_config.h"

#include "aimerge/architecture/architecture.h"
#include "aimerge/core/error.h"
#include "architecture/decoder_families.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>
#include <utility>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

/// "llama" of "LlamaForCausalLM", in whatever capitals; empty for classes of types whose keys are not all known.
std::string typeOfClass(const std::string& architecture) {
    constexpr std::string_view kEnd = "ForCausalLM";
    if (!architecture.ends_with(kEnd)) return "";
    std::string type = architecture.substr(0, architecture.size() - kEnd.size());
    std::ranges::transform(type, type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return isFullyRead(type) ? type : "";
}

std::string readArchitecture(const Json& config, const std::string& fileName) {
    const auto list = config.find("architectures");
    if (list == config.end() || list->is_null()) return "";
    if (!list->is_array() || (!list->empty() && !list->front().is_string()))
        throw InputError("{}: architectures is {}, expected a list of class names such as [\"LlamaForCausalLM\"]", fileName,
                         list->dump(-1, ' ', false, Json::error_handler_t::replace));
    return list->empty() ? "" : list->front().get<std::string>();
}

/// Both styles: {"rope_theta", "rope_scaling": {"rope_type" or "type"}} and {"rope_parameters": {"rope_theta",
/// "rope_type"}}. Where both are written, rope_scaling counts alone, as in transformers.
void readRope(const KeyReader& top, ModelConfig& result) {
    result.ropeTheta = top.positive("rope_theta", result.ropeTheta);
    result.rope.originalPositions = top.count("original_max_position_embeddings", result.rope.originalPositions);
    for (const char* section : {"rope_scaling", "rope_parameters"}) {
        const Json* values = top.find(section);
        if (values == nullptr || values->empty()) continue;
        if (!values->is_object()) {
            top.refuse(section, *values, "an object", 0);
            continue;
        }
        const KeyReader reader = top.section(section);
        result.ropeTheta = reader.positive("rope_theta", result.ropeTheta);
        readScaling(reader, result.rope);
        break;
    }
    result.rope.rotatedShare = top.positive("partial_rotary_factor", result.rope.rotatedShare);
}

/// Which layers see a window only: layer_types, else as the type of model has it.
void readWindows(const KeyReader& reader, const DecoderFamily& family, ModelConfig& result) {
    if (!family.windows) return;
    const WindowRule& rule = *family.windows;
    // Written as null it is none; not written it is the default.
    const std::int64_t window = reader.has("sliding_window") ? reader.count("sliding_window", 0) : family.slidingWindow;
    if (window == 0 || (rule.isAskedFor && !reader.flag("use_sliding_window", false))) return;
    result.windows.assign(static_cast<std::size_t>(result.layers), 0);
    const std::vector<std::string> types = rule.isListed ? reader.layerTypes(result.layers) : std::vector<std::string>{};
    const std::int64_t fullLayers = rule.fullFirst > 0 ? reader.count("max_window_layers", rule.fullFirst) : 0;
    const std::int64_t fullEvery =
        types.empty() && rule.fullEvery > 0 ? reader.count("sliding_window_pattern", rule.fullEvery) : 0;
    for (std::size_t layer = 0; layer < result.windows.size(); ++layer) {
        const auto number = static_cast<std::int64_t>(layer);
        bool slides = number >= fullLayers && (fullEvery == 0 || (number + 1) % fullEvery != 0);
        if (!types.empty()) slides = types[layer] == "sliding_attention";
        if (slides) result.windows[layer] = window;
    }
}

void readGemma2(const KeyReader& reader, ModelConfig& result) {
    // Written as null it is none; not written it is the default.
    const auto softcap = [&](const char* key, double byDefault) {
        return reader.has(key) ? reader.positive(key, 0) : byDefault;
    };
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

/// @param text of the values that describe the decoder @param family null: not known; what is not there then stays 0
void readSizes(const KeyReader& text, const DecoderFamily* family, ModelConfig& result) {
    const SizeKeys keys = family ? family->sizes : SizeKeys{};
    result.hiddenSize = text.requiredCount(keys.hidden);
    result.intermediateSize =
        keys.innerFactor > 0 ? text.count(keys.inner, keys.innerFactor * result.hiddenSize) : text.requiredCount(keys.inner);
    result.layers = text.requiredCount(keys.layers);
    const auto counted = [&](const char* key, std::int64_t byDefault) {
        return byDefault > 0 ? text.count(key, byDefault) : text.requiredCount(key);
    };
    result.heads = counted(keys.heads, family ? family->heads : 0);
    result.vocabSize = counted("vocab_size", family ? family->vocabulary : 0);
    result.keyValueHeads =
        keys.keyValueHeadsAre > 0
            ? keys.keyValueHeadsAre
            : text.count(keys.keyValueHeads, family && family->keyValueHeads > 0 ? family->keyValueHeads : result.heads);
    const std::int64_t equalShare = result.heads > 0 ? result.hiddenSize / result.heads : 0;
    const bool hasOwnHeadDim = family && family->headDim > 0 && !text.has("head_dim");
    result.headDim = text.count("head_dim", hasOwnHeadDim ? family->headDim : equalShare);
    result.maxPositions = text.count(keys.positions, family ? family->maxPositions : 0);
    result.rmsNormEps =
        family ? text.positive(family->epsKey, family->eps) : text.positive("rms_norm_eps", result.rmsNormEps);
    if (family) result.ropeTheta = family->theta, result.rope.rotatedShare = family->rotatedShare;
    readRope(text, result);
    result.attentionBias = text.flag("attention_bias", false);
    result.mlpBias = text.flag("mlp_bias", false);
    result.activation =
        family ? text.text(family->activationKey, family->activation) : text.text("hidden_act", result.activation);
    if (!family) return;
    readWindows(text, *family, result);
    if (family->modelType == "gemma2") readGemma2(text, result);
}

/// What config.json says of the decoder, with the family whose keys these are.
struct Text {
    const DecoderFamily* family;
    KeyReader reader;
};

Text textOf(const Json& config, const std::string& fileName, const std::string& modelType, bool strict) {
    const DecoderFamily* family = findDecoderFamily(modelType);
    const KeyReader top(config, "", fileName, strict);
    if (family && family->variantOf) return {&family->variantOf(top), top};
    if (family == nullptr || family->text == nullptr) return {family, top};
    const Json* section = top.find("text_config");
    if (section == nullptr || !section->is_object()) return {family->text, top};  // as older files have it
    const KeyReader text = top.section("text_config");
    const std::string type = text.text("model_type", std::string(family->text->modelType));
    const DecoderFamily* const textFamily = type == modelType ? family->text : findDecoderFamily(type);
    if (textFamily == nullptr) text.cannotRun("model_type", type, "others");
    return {textFamily, text};
}

ModelConfig read(const Json& config, const std::string& fileName, const std::string& modelType, const Text& text) {
    ModelConfig result;
    result.modelType = modelType;
    readSizes(text.reader, text.family, result);
    const KeyReader top(config, "", fileName, text.reader.isStrict());
    result.tieWordEmbeddings = top.flag("tie_word_embeddings", isTied(config));
    result.dtype = readDtype(top);
    result.quantized = top.find("quantization_config") != nullptr;
    return result;
}

}  // namespace

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

ModelConfig parseModelConfig(const Json& config, const std::string& fileName) {
    if (!config.is_object()) throw InputError("{}: holds {}, expected a JSON object", fileName, config.type_name());
    const std::string architecture = readArchitecture(config, fileName);
    std::string modelType = KeyReader(config, "", fileName, true).text("model_type", "");
    if (architecture.empty() && modelType.empty())
        throw InputError("{}: says neither architectures nor model_type, expected the config.json of a model", fileName);
    if (modelType.empty()) modelType = typeOfClass(architecture);

    ModelConfig result;
    try {
        const Text text = textOf(config, fileName, modelType, findDecoderFamily(modelType) != nullptr);
        result = read(config, fileName, modelType, text);
        try {
            if (text.family) result.decoder = describeDecoder(*text.family, text.reader, result);
        } catch (const InputError& error) {
            result.whyNotRun = error.what();
        }
    } catch (const InputError& error) {
        if (isFullyRead(modelType)) throw;
        result = read(config, fileName, modelType, {nullptr, KeyReader(config, "", fileName, false)});
        result.whyNotRun = error.what();
    }
    result.architecture = architecture;
    return result;
}

}  // namespace aimerge
