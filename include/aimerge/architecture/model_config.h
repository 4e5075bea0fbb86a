#pragma once
// The fields of a Hugging Face config.json that planning, merging and the decoder need, read from both styles:
// rope_theta + rope_scaling + torch_dtype (transformers 4) and rope_parameters + dtype (transformers 5).

#include "aimerge/architecture/decoder_description.h"
#include "aimerge/core/dtype.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct ModelConfig {
    std::string architecture;  // architectures[0], "LlamaForCausalLM"
    std::string modelType;     // "llama"
    std::int64_t hiddenSize = 0;
    std::int64_t intermediateSize = 0;
    std::int64_t layers = 0;
    std::int64_t heads = 0;
    std::int64_t keyValueHeads = 0;
    std::int64_t headDim = 0;  // hidden / heads when absent or null
    std::int64_t vocabSize = 0;
    std::int64_t maxPositions = 0;
    double rmsNormEps = 1e-6;
    double ropeTheta = 10000.0;
    RopeScaling rope;
    /// Per layer: how many tokens back it sees, itself included; 0: all. Empty: every layer sees all.
    std::vector<std::int64_t> windows;
    double attentionScalar = 0;  // of Gemma 2, query_pre_attn_scalar: queries are divided by its root; 0: by that of headDim
    double attentionSoftcap = 0, logitSoftcap = 0;  // of Gemma 2; 0: none
    bool tieWordEmbeddings = false;
    bool attentionBias = false;
    bool mlpBias = false;
    std::string activation = "silu";  // hidden_act, of Gemma 2 hidden_activation
    std::optional<Dtype> dtype;       // torch_dtype / dtype
    bool quantized = false;           // has a quantization_config

    std::optional<DecoderDescription> decoder;  // of a family that the decoder runs
    std::string whyNotRun;                      // of such a family, what of its config.json is not understood
};

/// What is missing has transformers' default for the model_type, of the families that the decoder runs
/// (decoder_family.h); their sizes may stand in the section about the text. Of other types, numbers that are missing stay 0:
/// such a model can be merged without AIM. A model_type that is missing is told by the class, where that is of one of
/// llama, mistral, qwen2, qwen3, phi3, gemma2; only of these types is a key that is wrong an error here.
/// @throws InputError naming the file, the key, what was expected and what was found
ModelConfig parseModelConfig(const nlohmann::ordered_json& config, const std::string& fileName);

/// A type of which a ModelConfig has all that decides about the forward pass: llama, mistral, qwen2, qwen3, phi3, gemma2.
bool isFullyRead(std::string_view modelType);

}  // namespace aimerge
