#pragma once
// Whether a model is one that aimerge's own decoder runs: its ModelConfig then has a description of what it computes.

#include "aimerge/architecture/model_config.h"

#include <string>

namespace aimerge {

/// @throws InputError: of another family (with the names that there are, and with the way that other models have), or what
/// its config.json asks for is not built
void requireRunnable(const ModelConfig& config, const std::string& model);

/// What the model computes. @throws InputError as requireRunnable() does
const DecoderDescription& decoderOf(const ModelConfig& config, const std::string& model);

}  // namespace aimerge
