#pragma once
// `--set path.to.key=value`: changes of the YAML tree before it is validated, so that overrides obey the rules of the file.

#include "aimerge/config/yaml_document.h"

#include <string>

namespace aimerge {

/// Sets what the path names: keys, and 0-based numbers for list items, separated by dots. Mappings that are missing on the
/// way are made; list items are not. The value is YAML ("0.4", "[0.2, 0.4]").
/// @throws UsageError that begins with "--set path=value"
void applyOverride(YamlNode& root, const std::string& override);

}  // namespace aimerge
