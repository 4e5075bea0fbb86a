#pragma once
// The `aim:` section. A preset is read first, whatever its place in the section; keys that are written override it.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

namespace aimerge {

/// @throws UsageError, also when the section lacks what `use` needs
AimConfig readAim(const YamlEntry& section, ConfigUse use);

}  // namespace aimerge
