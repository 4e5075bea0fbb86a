#pragma once
// What the commands that end in one merge have in common.

#include "cli/options.h"

#include "aimerge/config/merge_config.h"
#include "aimerge/distributed/world.h"

#include <vector>

namespace aimerge {

/// --out and what says how it is written.
void declareOutput(CLI::App& app, Options& options);

/// Collective. All documents, the last into --out.
void mergeDocuments(World& world, const Options& options, const std::vector<MergeConfig>& documents);

}  // namespace aimerge
