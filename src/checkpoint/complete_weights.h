#pragma once
// Weights that are not there although a name or config.json speaks of them.

#include "aimerge/checkpoint/checkpoint.h"

namespace aimerge {

/// Parameters that are spread over ranks have no elements in the module, and a program that saves a model without gathering
/// them writes tensors of shape [0]. @throws InputError naming the first
void refusePlaceholders(const Checkpoint& model);

/// A line when config.json counts layers for multi-token prediction and there are none: the output says the same.
void sayMissingPredictionLayers(const Checkpoint& reference);

}  // namespace aimerge
