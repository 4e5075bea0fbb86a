#pragma once
// What loading libraries look for beside the weights, the config and the tokenizer: the generation config, processors of
// images and sound, the code of models that bring their own, and the modules of sentence-transformers with their folders.
// An output gets those of the model that gives its config.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// Paths relative to the model's folder, sorted. Code (*.py) is among them when a config names it (`auto_map`, or a module
/// of modules.json that is not sentence-transformers' own).
/// @throws InputError when modules.json names a folder outside the model's
std::vector<std::string> companionFiles(const std::filesystem::path& folder);

struct NamedFolder {
    std::string name;  // of the model, as the user wrote it
    std::filesystem::path folder;
};

/// Says which code comes along and what of it is missing, and in which companions the other models differ. JSON is compared
/// by its values, but for the version that wrote it; generation_config.json is left to those who compare its values.
void sayCompanions(const NamedFolder& reference, std::span<const NamedFolder> others);

}  // namespace aimerge
