#pragma once
// What is wrong with a command line that CLI11 could not parse, in words that help further.

#include <CLI/CLI.hpp>

#include <string>

namespace aimerge {

/// One line. Unknown options come first, each with what it is called here or the nearest known one; then a missing or
/// unknown command; else CLI11's own words.
std::string whatIsWrong(const CLI::App& app, const CLI::ParseError& error);

}  // namespace aimerge
