#pragma once
// What the small JSON files of a checkpoint folder say of its tensors, compared with the shards' headers: part of verify().

#include "aimerge/output/verify.h"
#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <map>
#include <string>
#include <vector>

namespace aimerge {

/// Headers of the shards that have a readable one, by file name.
using ShardHeaders = std::map<std::string, SafetensorsHeader>;

/// model.safetensors.index.json against the headers, in both directions. `files` are the names in the folder. A damaged
/// shard without a header is not reported again. Files named as Finding::file are relative to the folder.
std::vector<Finding> checkIndex(const nlohmann::json& index, const std::vector<std::string>& files,
                                const ShardHeaders& headers);

/// Loaders ignore a stored lm_head when the config ties it, and make one up when it is untied and missing.
std::vector<Finding> checkTiedEmbeddings(const nlohmann::ordered_json& config, const ShardHeaders& headers);

}  // namespace aimerge
