#pragma once
// By what the layers of a stack differ, and whether that stays so when they are put together anew.

#include "aimerge/architecture/architecture.h"

namespace aimerge {

/// Lists that config.json leaves out and that transformers makes from other keys, added to the stack's.
void addImpliedLists(const nlohmann::ordered_json& config, const std::string& modelType, Stack& stack);

/// @param tensors of every layer of the stack: names behind the layer's number, with their shapes
LayerKinds layerKinds(const nlohmann::ordered_json& config, const Family* family, const Stack& stack,
                      std::vector<std::vector<std::string>> tensors);

}  // namespace aimerge
