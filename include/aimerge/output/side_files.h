#pragma once
// Everything in a checkpoint folder but the shards and the manifest: index, config.json, the files copied from a source
// model, the model card and the config. Each function writes (synced) and returns the manifest's entries.

#include "aimerge/output/manifest.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

inline constexpr const char* kIndexFileName = "model.safetensors.index.json";
inline constexpr const char* kConfigFileName = "config.json";
inline constexpr const char* kModelCardFileName = "README.md";
inline constexpr const char* kMergeConfigFileName = "mergekit_config.yml";

inline constexpr const char* kGenerationConfigFileName = "generation_config.json";

enum class TokenizerCopy { FromSource, WrittenByCaller };

struct SideFiles {
    nlohmann::ordered_json config;  // config.json, as withDtype() and the vocabulary leave it
    /// Folder of the model whose companionFiles() are copied, and its tokenizerFilesIn().
    std::filesystem::path copyFrom;
    TokenizerCopy tokenizer = TokenizerCopy::FromSource;
    std::string modelCard;    // README.md
    std::string mergeConfig;  // mergekit_config.yml
    /// The caller writes a chat template. One in processor_config.json would come before it, and is left out.
    bool dropsProcessorTemplate = false;
};

/// The config with the output's dtype under the key the config uses (torch_dtype, dtype or both; torch_dtype when it has
/// neither, because every version of transformers reads that). Keys keep their order.
nlohmann::ordered_json withDtype(nlohmann::ordered_json config, Dtype dtype);

/// Writes all of them; the index only for more than one shard.
/// @throws InputError when a file to copy cannot be read, RuntimeFault when one cannot be written
std::vector<ManifestFile> writeSideFiles(const std::filesystem::path& folder, const ShardLayout& layout,
                                         const SideFiles& files);

/// Writes one file of the caller's, such as an aligned tokenizer.json. The name may begin with folders.
ManifestFile writeSideFile(const std::filesystem::path& folder, const std::string& name, std::string_view contents);

}  // namespace aimerge
