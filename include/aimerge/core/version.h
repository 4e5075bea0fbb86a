#pragma once
// The version that every result records. A merge is resumed, and statistics are reused, only within one version.

#include <string_view>

namespace aimerge {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace aimerge
