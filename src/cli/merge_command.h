#pragma once
// What the commands that end in one merge have in common.

#include "cli/options.h"

#include "aimerge/config/merge_config.h"
#include "aimerge/distributed/world.h"

#include <string>
#include <vector>

namespace aimerge {

/// --out and what says how it is written.
void declareOutput(CLI::App& app, Options& options);

/// Collective. All documents, the last into --out.
void mergeDocuments(World& world, const Options& options, const std::vector<MergeConfig>& documents);

/// Collective. A merge whose config stands for the command line: printed, checked as a file would be, and merged.
/// @param command what messages about the config name in place of a file: "aimerge relax"
void mergeConfigText(World& world, const Options& options, const std::string& text, const std::string& command);

}  // namespace aimerge
