#pragma once
// The version of the program, for people: it stands in --version and in what a result says of its making. What decides
// whether a result can be used again is its revision (core/revision.h).

#include <string_view>

namespace aimerge {

/// As CMakeLists.txt has it in project().
extern const std::string_view kVersion;

}  // namespace aimerge
