#pragma once

#include "aimerge/architecture/model_config.h"
#include "aimerge/model/decoder.h"

#include <string>

namespace aimerge {

/// On the CPU, by the operations of transformers in float32, so that they have the same bits; the result rounded to the
/// compute dtype. Rope types: default, linear, dynamic (which changes nothing up to max_position_embeddings), llama3, yarn,
/// longrope (for which maxLength decides between its two lists of factors).
/// @throws InputError for others, and for missing fields
RotaryTables makeRotaryTables(const ModelConfig& config, std::int64_t maxLength, at::ScalarType computeType,
                              const std::string& model);

}  // namespace aimerge
