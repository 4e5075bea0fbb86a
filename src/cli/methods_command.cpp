// aimerge methods: every merge method with its parameters and defaults.

#include "cli/options.h"

#include "aimerge/distributed/world.h"
#include "aimerge/merge/method.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace aimerge {
namespace {

std::string defaultText(const ParameterSpec& parameter) {
    if (!parameter.fallback) return "required";
    if (parameter.type == ParameterType::Boolean) return *parameter.fallback != 0 ? "true" : "false";
    if (parameter.type == ParameterType::Choice) return parameter.choices.at(static_cast<std::size_t>(*parameter.fallback));
    return fmt::format("{}", *parameter.fallback);
}

const char* scopeText(ParameterScope scope) {
    return scope == ParameterScope::Shared ? "all" : scope == ParameterScope::PerInput ? "per model" : "per expert";
}

void printText() {
    for (const Method* method : methods()) {
        const MethodInfo& info = method->info();
        fmt::print("{}\n  {}\n  {}\n", info.name, info.description, info.paper);
        for (const ParameterSpec& parameter : info.parameters) {
            fmt::print("    {:<12} {:<10} {:<9} {}\n", parameter.name, scopeText(parameter.scope), defaultText(parameter),
                       parameter.description);
        }
    }
}

void printJson() {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const Method* method : methods()) {
        const MethodInfo& info = method->info();
        nlohmann::ordered_json parameters = nlohmann::ordered_json::array();
        for (const ParameterSpec& parameter : info.parameters) {
            parameters.push_back({{"name", parameter.name},
                                  {"scope", scopeText(parameter.scope)},
                                  {"default", defaultText(parameter)},
                                  {"description", parameter.description}});
        }
        list.push_back(
            {{"name", info.name}, {"description", info.description}, {"paper", info.paper}, {"parameters", parameters}});
    }
    fmt::print("{}\n", list.dump(2));
}

void declareMethods(CLI::App& app, Options& options) {
    app.add_flag("--json", options.json, "Print JSON to standard output");
}

void runMethods(World& world, const Options& options) {
    if (!world.isRoot()) return;
    options.json ? printJson() : printText();
}

}  // namespace

const Command kMethodsCommand{"methods", "List the merge methods with their parameters and defaults",
                              "aimerge methods --json", declareMethods, runMethods};

}  // namespace aimerge
