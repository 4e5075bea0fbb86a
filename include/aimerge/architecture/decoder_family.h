#pragma once
// How the decoders that aimerge runs by itself differ from Llama's, as data: whoever asks whether a model can be run needs
// no libtorch for it.

#include "aimerge/architecture/model_config.h"

#include <span>
#include <string>

namespace aimerge {

struct DecoderFamily {
    const char* modelType;           // of config.json
    bool fusesProjections = false;   // qkv_proj for q_proj, k_proj and v_proj; gate_up_proj for gate_proj and up_proj
    bool normalisesHeads = false;    // q_norm and k_norm over each head, before the rotation
    bool normalisesOutputs = false;  // attention and MLP each have a norm before and one behind them
    bool shiftsNorms = false;        // norms multiply by 1 + weight, in float32
    bool scalesEmbeddings = false;   // by the root of their width
};

/// All of them, by name.
std::span<const DecoderFamily* const> decoderFamilies();

/// @throws InputError with the names that there are, and with the way that other models have
const DecoderFamily& familyOf(const ModelConfig& config, const std::string& model);

/// @throws InputError: of another family, or what its config.json asks for is not built
void requireRunnable(const ModelConfig& config, const std::string& model);

}  // namespace aimerge
