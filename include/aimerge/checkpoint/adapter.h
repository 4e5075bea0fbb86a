#pragma once
// LoRA adapters as PEFT writes them: a folder with adapter_config.json and adapter_model.safetensors, or .bin of older
// versions. An adapter is no model: it says how the parameters of a base model change. Read here are its config and its
// header; factors are read by whoever applies them (merge/adapted_source.h).
//
//     W' = W + scaling B A        A [r, in], B [out, r], scaling = alpha / r, with rsLoRA alpha / sqrt(r)
//
// Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685; rsLoRA: Kalajdzievski 2023,
// arXiv 2312.03732. What PEFT's merge_and_unload makes of the same files is the reference.

#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// The change of one parameter.
struct LowRankUpdate {
    TensorInfo a, b;          // [r, n], [m, r], of dtypes that can be merged; positions in Adapter::weights
    double scaling = 1;       // finite
    bool transposed = false;  // the change is (B A)^T: embeddings, and layers that store [in, out]

    std::int64_t rank() const { return a.shape[0]; }
    Shape shape() const;  // of the parameter that it fits
};

struct Adapter {
    std::filesystem::path folder;
    std::filesystem::path weights;                 // adapter_model.safetensors, else adapter_model.bin
    nlohmann::ordered_json config;                 // adapter_config.json
    std::string configFile;                        // its path, for messages
    std::string trainedOn;                         // base_model_name_or_path; empty when the config has none
    std::map<std::string, LowRankUpdate> updates;  // by name of the parameter
    std::vector<TensorInfo> replacements;          // parameters stored in full; `name` is the parameter's
    std::vector<std::string> modulesToSave;        // ends of the names of modules stored in full
};

/// "BASE+ADAPTER", each a folder or a hub name.
struct AdaptedName {
    std::string base, adapter;
};

/// nullopt when `name` is an existing folder (which may have a plus sign in its name), or not of that form.
std::optional<AdaptedName> splitAdaptedName(const std::string& name);

/// True for a folder with adapter_config.json and without a model's weights.
bool isAdapterFolder(const std::filesystem::path& folder);

/// @throws InputError naming the file and the key or tensor: files missing or damaged; a kind of adapter, or a setting,
/// whose
///         result would not be that of the formula above; A without B; ranks that are not the config's
Adapter readAdapter(const std::filesystem::path& folder);

}  // namespace aimerge
