#pragma once
// What two models of one architecture say differently about how their weights are used: lengths, windows, when a text ends,
// how text is drawn. The output says what the reference says.

#include "aimerge/checkpoint/checkpoint.h"

namespace aimerge {

/// True for a type that is fully read (model_config.h): ModelConfig has all its rotary settings, with their defaults.
bool knowsRope(const Checkpoint& model);

/// One line with both values of everything that differs; nothing where nothing does.
/// @param wholeModels layer n is merged with layer n, so that lists of layers can be compared
void sayOtherMeaning(const Checkpoint& model, const Checkpoint& reference, bool wholeModels);

}  // namespace aimerge
