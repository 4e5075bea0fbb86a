#pragma once
// A merge config from a tree of YAML values, for configs that are put together from parts of another file.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

namespace aimerge {

/// Its text is that of the tree, so that `aimerge merge` of the text makes the same; its marks are the nodes'.
/// @throws UsageError, as parseMergeConfigs
MergeConfig mergeConfigOf(const YamlNode& document, const std::string& fileName);

}  // namespace aimerge
