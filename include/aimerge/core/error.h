#pragma once
// One exception type per exit code. A message is one line for the person who reads it at 3 a.m.: what was being done,
// which file and key, what was expected, what was found, what to do. Callers of a job may catch them; in the program
// src/cli/main.cpp does.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace aimerge {

enum class ExitCode : int { Done = 0, Usage = 2, Input = 3, Fault = 4, Damage = 6, Interrupted = 75 };

/// The text with escapes in place of line breaks and other control characters, which names out of files may have.
std::string oneLine(std::string text);

class Error : public std::runtime_error {
public:
    ExitCode exitCode() const { return exitCode_; }

protected:
    Error(ExitCode exitCode, const std::string& message) : std::runtime_error(oneLine(message)), exitCode_(exitCode) {}

private:
    ExitCode exitCode_;
};

template <ExitCode kCode>
class ErrorOf : public Error {
public:
    template <typename... Args>
    explicit ErrorOf(fmt::format_string<Args...> text, Args&&... args)
        : Error(kCode, fmt::format(text, std::forward<Args>(args)...)) {}
};

/// Bad command line or configuration.
using UsageError = ErrorOf<ExitCode::Usage>;
/// A checkpoint, corpus or statistics file that cannot be used.
using InputError = ErrorOf<ExitCode::Input>;
/// A fault while running: I/O, memory, communication, a lost rank.
using RuntimeFault = ErrorOf<ExitCode::Fault>;
/// `verify` found damage.
using DamageFound = ErrorOf<ExitCode::Damage>;
/// Stopped by a signal in a state that a rerun continues from.
using Interrupted = ErrorOf<ExitCode::Interrupted>;

}  // namespace aimerge
