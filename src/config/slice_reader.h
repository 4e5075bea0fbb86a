#pragma once
// What is merged, in mergekit's three spellings: `models`, `slices`, and `modules` with the one module named default.

#include "aimerge/config/merge_config.h"
#include "config/mapping_reader.h"

#include <string>
#include <vector>

namespace aimerge {

/// A model as mergekit refers to it: text, {model: TEXT} or {model: {path: TEXT, revision: TEXT}}, which gives
/// "TEXT@REVISION".
std::string readModelReference(const YamlNode& node, const std::string& name);

/// Sets slices and moduleParameters; neither where the file has none of the keys.
/// @throws UsageError, also when more than one of the keys is there
void readSlices(const MappingReader& file, MergeConfig& config);

}  // namespace aimerge
