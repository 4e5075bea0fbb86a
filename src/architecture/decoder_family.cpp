#include "aimerge/architecture/decoder_family.h"

#include "aimerge/core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

namespace aimerge {

namespace {

constexpr DecoderFamily kGemma2{
    .modelType = "gemma2", .normalisesOutputs = true, .shiftsNorms = true, .scalesEmbeddings = true};
constexpr DecoderFamily kLlama{.modelType = "llama"};
constexpr DecoderFamily kMistral{.modelType = "mistral"};
constexpr DecoderFamily kPhi3{.modelType = "phi3", .fusesProjections = true};
constexpr DecoderFamily kQwen2{.modelType = "qwen2"};
constexpr DecoderFamily kQwen3{.modelType = "qwen3", .normalisesHeads = true};

}  // namespace

std::span<const DecoderFamily* const> decoderFamilies() {
    static constexpr std::array kAll{&kGemma2, &kLlama, &kMistral, &kPhi3, &kQwen2, &kQwen3};
    return kAll;
}

const DecoderFamily& familyOf(const ModelConfig& config, const std::string& model) {
    std::vector<std::string> names;
    for (const DecoderFamily* family : decoderFamilies()) {
        if (config.modelType == family->modelType) return *family;
        names.emplace_back(family->modelType);
    }
    throw InputError(
        "{}: config.json: model_type is \"{}\"; the decoder runs {}. Record the activations of such a model with "
        "src/tools/record_statistics.py and give the log as aim.statistics, or merge without an aim section and by a method "
        "that measures no expert",
        model, config.modelType, fmt::join(names, ", "));
}

void requireRunnable(const ModelConfig& config, const std::string& model) {
    familyOf(config, model);
    if (config.activation != "silu" && config.activation != "gelu_pytorch_tanh")
        throw InputError("{}: config.json: hidden_act is \"{}\"; the decoder runs silu and gelu_pytorch_tanh", model,
                         config.activation);
    if (config.quantized)
        throw InputError("{}: config.json: has a quantization_config; the decoder runs plain floating weights only", model);
    if (config.keyValueHeads < 1 || config.heads % config.keyValueHeads != 0)
        throw InputError("{}: config.json: num_attention_heads {} is no multiple of num_key_value_heads {}", model,
                         config.heads, config.keyValueHeads);
    if (config.headDim < 2 || config.headDim % 2 != 0)
        throw InputError("{}: config.json: head_dim is {}, expected an even number", model, config.headDim);
}

}  // namespace aimerge
