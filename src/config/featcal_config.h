#pragma once
// The `featcal:` section: how the merged layers are fitted to what experts compute.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

namespace aimerge {

/// @throws UsageError with the mark: an unknown key, a number out of range, an expert without a model or named twice
FeatcalConfig readFeatcal(const YamlEntry& section);

}  // namespace aimerge
