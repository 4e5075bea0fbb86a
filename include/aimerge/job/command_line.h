#pragma once
// The command line as it was given, for logs and manifests.

#include <string>

namespace aimerge {

/// From /proc/self/cmdline, arguments separated by blanks.
std::string commandLine();
/// Without the program's own name.
std::string commandArguments();

}  // namespace aimerge
