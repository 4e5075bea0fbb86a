#pragma once
// Configs that are no merge configs, but those of other tools, told by keys that they alone have.

#include "aimerge/config/yaml_document.h"

namespace aimerge {

/// @throws UsageError saying whose config it is and what there is here instead
void refuseForeignConfig(const YamlNode& root);

}  // namespace aimerge
