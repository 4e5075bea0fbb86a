#pragma once
// Finds the stacks of layers of a model in the names of its tensors and the counts of its config.json.

#include "aimerge/architecture/architecture.h"

#include <span>
#include <string_view>
#include <vector>

namespace aimerge {

/// A number in a tensor's name and what stands before it: "model.layers." and 12 of "model.layers.12.mlp.up_proj.weight".
struct NumberedName {
    std::string_view prefix;
    std::int64_t number = -1;
    std::string_view rest;  // behind the number and its dot
};

/// The first number between two dots; nullopt where there is none, or it is not written plainly.
std::optional<NumberedName> firstNumber(std::string_view tensor);

/// The stacks, the one that makes text or the largest first. Their lists are in order of the file.
std::vector<Stack> findStacks(const nlohmann::ordered_json& config, std::span<const TensorInfo> tensors);

/// Whether a tensor is of a module of its own for multi-token prediction, beside the stacks: "mtp.layers.0.".
bool isPredictionModule(std::string_view name);

/// Whether a name says that it is about images or sound.
bool isOfAnotherModality(std::string_view name);

/// The value at a JSON pointer; null where there is none.
const nlohmann::ordered_json* valueAt(const nlohmann::ordered_json& config, const std::string& path);

/// The section of config.json that a JSON pointer's last key stands in: "/text_config" of "/text_config/n_layer".
std::string sectionOf(const std::string& path);

}  // namespace aimerge
