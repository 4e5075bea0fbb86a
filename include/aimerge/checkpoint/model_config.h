#pragma once
// The fields of a Hugging Face config.json that planning, merging and the decoder need, read from both styles:
// rope_theta + rope_scaling + torch_dtype (transformers 4) and rope_parameters + dtype (transformers 5).

#include "aimerge/core/dtype.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>

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
    std::string ropeType = "default";
    bool tieWordEmbeddings = false;
    bool attentionBias = false;
    bool mlpBias = false;
    std::string activation = "silu";  // hidden_act
    std::optional<Dtype> dtype;       // torch_dtype / dtype
    bool quantized = false;           // has a quantization_config
};

/// Missing numbers of an architecture other than Llama stay 0: such a model can be merged without AIM.
/// @throws InputError naming the file, the key, what was expected and what was found
ModelConfig parseModelConfig(const nlohmann::ordered_json& config, const std::string& fileName);

}  // namespace aimerge
