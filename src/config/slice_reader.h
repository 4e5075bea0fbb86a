#pragma once
// What is merged, in mergekit's three spellings: `models`, `slices`, and `modules` with the one module named default.

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/merge_config.h"

#include <string>
#include <vector>

namespace aimerge {

/// Sets slices and moduleParameters, and adds to unread; neither of the first two where the file has none of the keys.
/// @throws UsageError, also when more than one of the keys is there
void readSlices(const MappingReader& file, MergeConfig& config);

}  // namespace aimerge
