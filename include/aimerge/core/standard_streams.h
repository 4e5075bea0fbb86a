#pragma once
// Standard error and standard output where they take nothing: a log in a home over its quota, a
// closed descriptor, a full disk.

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace aimerge {

/// Puts /dev/null in the place of descriptors 0 to 2 that are closed. Else the first files that the job opens get these
/// numbers, and what is said on standard error goes into them.
void openStandardStreams();

/// What standard error does not take is dropped: a job goes on without being heard.
void writeToStandardError(std::string_view text) noexcept;

template <typename... Arguments>
void tellUser(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
    writeToStandardError(fmt::format(format, std::forward<Arguments>(arguments)...));
}

/// What was printed is what the user asked for: to lose it is an error.
/// @throws RuntimeFault when standard output did not take everything
void flushStandardOutput();

}  // namespace aimerge
