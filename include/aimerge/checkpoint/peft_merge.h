#pragma once
// Adapters of kinds whose formulas are PEFT's own affair (LoHa, LoKr, IA3, OFT, VeRA, ...). PEFT merges them itself: the
// script src/tools/merge_adapter.py gives it the modules that the adapter changes, some at a time, and writes their merged
// parameters in float32 into a folder of the user's cache. Such a folder is read as an adapter that has these values
// (MergedValues). It is known again by the files of base and adapter and by the version of PEFT.

#include <filesystem>
#include <vector>

namespace aimerge {

class Checkpoint;

/// The key of adapter_config.json in such a folder: which PEFT merged it.
inline constexpr const char* kMergedByKey = "aimerge_merged_by";

/// What stands there behind the name of a merged parameter.
inline constexpr const char* kMergedSuffix = ".merged";

/// True when PEFT has to merge the adapter in `folder`. @throws InputError for one that cannot be merged
bool isMergedByPeft(const std::filesystem::path& folder);

/// The folder with what PEFT makes of the base under the adapter; runs PEFT, which takes about as long as
/// reading and writing the changed weights, where it is not there yet. Local: of several processes at once one
/// runs PEFT, and the others wait.
/// @pre isMergedByPeft(adapter)
/// @throws InputError: the adapter does not fit the base, or PEFT refuses it; RuntimeFault: Python has no PEFT (names the
///         command to run where there is one)
std::filesystem::path mergedByPeft(const Checkpoint& base, const std::filesystem::path& adapter);

/// Its weight files; empty when `folder` is none that mergedByPeft() gave.
std::vector<std::filesystem::path> filesMergedByPeft(const std::filesystem::path& folder);

}  // namespace aimerge
