#pragma once
// The engine's log, kept until Python takes it: no thread of the engine ever waits for the interpreter.

#include <spdlog/common.h>

#include <string>
#include <vector>

namespace aimerge {

struct LogLine {
    std::string level;  // "debug", "info", "warning", "error", "critical"
    std::string text;
};

/// From here on the log of this process is kept here, from this level up. Thread-safe.
void keepLogLines(spdlog::level::level_enum level);

/// What was said since the last call, by any job, in order. Thread-safe.
std::vector<LogLine> takeLogLines();

}  // namespace aimerge
