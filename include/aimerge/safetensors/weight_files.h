#pragma once
// Which files of a model folder hold its weights.

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

struct WeightFiles {
    std::vector<std::filesystem::path> paths;      // in the order of their names
    std::map<std::string, std::string> weightMap;  // tensor name to file name; empty without an index
    std::filesystem::path index;                   // empty without an index
    double totalSize = -1;                         // metadata.total_size of the index; -1 where it says none
};

/// What transformers would load: model.safetensors, else the shards of model.safetensors.index.json, else pytorch_model.bin,
/// else the shards of pytorch_model.bin.index.json; else the only other *.safetensors file.
/// @throws InputError: none of these (says what there is instead and how to convert it), a bad index
WeightFiles findWeightFiles(const std::filesystem::path& folder);

/// True for a folder with one of these but the last.
bool hasModelWeights(const std::filesystem::path& folder);

}  // namespace aimerge
