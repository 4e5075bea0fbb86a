#pragma once
// The options that stand for a config file: aimerge merge --method dare_ties --base B --models A,C --weight 0.5.

#include "cli/aim_arguments.h"

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace aimerge {

struct MethodArguments {
    std::string method, base, dtype;           // empty = not given; without a method there is a config file
    std::vector<std::string> models;           // names, or several separated by commas
    std::vector<std::string> weight, density;  // one value, or one for each model
    std::vector<std::string> parameters;       // NAME=VALUE or NAME=VALUE,VALUE...
};

/// What --help lists these options, and those of AIM beside them, under.
inline constexpr const char* kInPlaceOfConfig = "In place of a config";

/// --method and what goes with it, all but the options of AIM.
void declareMethodOptions(CLI::App& app, MethodArguments& arguments);

/// The config, in YAML. Values of a parameter that the method takes for each model stand there, others are global; the
/// corpus is that of AIM, or without --omega what the method measures the experts on.
/// @param overrides may give a parameter that the method needs
/// @throws UsageError naming the option
std::string methodConfigText(const MethodArguments& arguments, const AimArguments& aim,
                             const std::vector<std::string>& overrides);

}  // namespace aimerge
