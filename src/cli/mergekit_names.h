#pragma once
// What users of mergekit type, and what it is called here. src/tools/mergekit-yaml translates a whole command line; a test
// holds the two together.

#include <string>
#include <string_view>

namespace aimerge {

/// What to do in place of an option of mergekit 0.1.5 ("--cuda", "-j", also "--no-cuda"): "here it is --device cuda". Empty
/// for options that it does not have.
std::string insteadOfMergekitOption(std::string_view option);

/// What to do in place of a program of it, "moe" or "mergekit-moe".
std::string insteadOfMergekitProgram(std::string_view name);

}  // namespace aimerge
