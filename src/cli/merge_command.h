#pragma once
// What the commands that end in one merge have in common.

#include "cli/options.h"

namespace aimerge {

/// --out and what says how it is written.
void declareOutput(CLI::App& app, Options& options);

}  // namespace aimerge
