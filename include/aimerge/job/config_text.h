#pragma once
// Configs that a few arguments stand for: of `aimerge merge --method`, `relax` and `featcal`, and of the functions of those
// names in Python. Local; all throw UsageError naming the command line's option.

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// The section `aim`.
struct AimArguments {
    std::vector<double> omegas;
    std::string corpus, preset, statistics;  // empty = not given
    std::vector<std::string> textKeys;       // empty = not given
};

struct MethodArguments {
    std::string method, base, dtype;           // empty = not given; without a method there is a config file
    std::vector<std::string> models;           // names, or several separated by commas
    std::vector<std::string> weight, density;  // one value, or one for each model
    std::vector<std::string> parameters;       // NAME=VALUE or NAME=VALUE,VALUE...
};

struct FeatcalArguments {
    std::vector<std::string> experts;  // NAME=MODEL:TEXT
    std::string base, baseText;        // empty = none
    double lambda = 0.01, rho = 1, alpha = 1;
    std::vector<std::string> textKeys;  // empty: by layout
    std::int64_t sequences = 256, sequenceLength = 2048;
    std::string dtype = "bfloat16";
};

/// In YAML: `statistics` where given; else a `calibration` on the corpus, or without one on the general text that comes with
/// aimerge. @throws UsageError when options exclude each other
std::string aimSection(const AimArguments& arguments);

/// What to say of a merge with these arguments; empty for nothing.
std::string remarkOn(const AimArguments& arguments);

/// A whole config. Values of a parameter that the method takes for each model stand there, others are global; the corpus is
/// that of AIM, or without omegas what the method measures the experts on.
/// @param overrides may give a parameter that the method needs
std::string methodConfigText(const MethodArguments& arguments, const AimArguments& aim,
                             const std::vector<std::string>& overrides);

/// A whole config: AIM on a model that any program has merged, as the only expert of task_arithmetic.
std::string relaxConfigText(const std::string& merged, const std::string& base, const AimArguments& aim);

/// A whole config: a model that any program has merged, fitted to its experts (docs/methods.md, featcal).
std::string featcalConfigText(const std::string& merged, const FeatcalArguments& arguments);

/// A text in double quotes, for YAML. @throws UsageError when it is not UTF-8
std::string quoted(const std::string& text);

/// A list of quoted texts: ["a", "b"].
std::string quotedList(const std::vector<std::string>& texts);

}  // namespace aimerge
