#pragma once
// The options of commands without a config file that stand for the section `aim`.

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace aimerge {

struct AimArguments {
    std::vector<double> omegas;
    std::string corpus, preset, statistics;  // empty = not given
    std::vector<std::string> textKeys;       // empty = not given
};

/// --omega, --corpus, --text-key, --preset, --statistics.
CLI::Option* declareAimOptions(CLI::App& app, AimArguments& arguments);

/// The section of a config, in YAML: `statistics` where given; else a `calibration` on the corpus, or without one on the
/// general text that comes with aimerge.
/// @throws UsageError when options exclude each other
std::string aimSection(const AimArguments& arguments);

/// Nothing was said about activations, so aimSection() chose the general text.
bool usesGeneralText(const AimArguments& arguments);

/// A text in double quotes, for YAML. @throws UsageError when it is not UTF-8
std::string quoted(const std::string& text);

/// A list of quoted texts: ["a", "b"].
std::string quotedList(const std::vector<std::string>& texts);

}  // namespace aimerge
