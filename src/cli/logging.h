#pragma once
// Where the log goes: to standard error, and with --log-dir to a file per rank as well.

#include "cli/options.h"

#include "aimerge/distributed/world.h"

#include <string>

namespace aimerge {

/// Starts the log on standard error: of rank 0 at --log-level, of the others errors alone.
void startLogging(const World& world, const Options& options);

/// With --log-dir: from here on everything down to level debug also goes to rank-NNNN.log of that folder, appended, each
/// line with time, rank, host and device. Nothing without. @throws RuntimeFault when the file cannot be opened
void startLogFile(const World& world, const Options& options);

/// The line that a rank ends with, into its log file if it has one; standard error has it from main().
void logEnd(const std::string& line);

}  // namespace aimerge
