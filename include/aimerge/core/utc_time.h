#pragma once
// The time of day as files and messages give it.

#include <fmt/chrono.h>

#include <ctime>
#include <string>

namespace aimerge {

/// "2025-01-31T23:59:59Z", now.
inline std::string utcTimeText() {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
}

}  // namespace aimerge
