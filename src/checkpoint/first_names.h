#pragma once
// What a message shows of a model whose names do not fit.

#include "aimerge/checkpoint/checkpoint.h"

#include <string>

namespace aimerge {

/// "model.embed_tokens.weight, model.layers.0.input_layernorm.weight, ..."
std::string firstNames(const Checkpoint& model);

}  // namespace aimerge
