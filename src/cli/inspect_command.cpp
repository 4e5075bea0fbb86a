// aimerge inspect PATH: what a checkpoint folder or a statistics log holds, as tables or as JSON.

#include "cli/options.h"

#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"
#include "aimerge/safetensors/safetensors.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

/// A line per module of fused experts, and of plain ones whose input is not their last axis.
/// @param width of the longest name
void printExperts(const ordered_json& modules, std::size_t width) {
    const auto hasLine = [](const ordered_json& module) { return module.contains("experts") || module["input_axis"] != -1; };
    if (std::ranges::none_of(modules, hasLine)) return;
    fmt::print("\n{:<{}}  {:>7}  {:>14}  {:>16}  {:>10}\n", "module", width, "experts", "without tokens", "under 100 tokens",
               "input axis");
    for (const ordered_json& module : modules) {
        if (!hasLine(module)) continue;
        const auto text = [&](const char* key) {
            return module.contains("experts") ? module["experts"][key].dump() : std::string("-");
        };
        fmt::print("{:<{}}  {:>7}  {:>14}  {:>16}  {:>10}\n", module["module"].get<std::string>(), width, text("count"),
                   text("without_tokens"), text("under_100_tokens"), module["input_axis"].get<int>());
    }
}

void printStatistics(const ordered_json& statistics) {
    const ordered_json& origin = statistics["origin"];
    fmt::print("statistics of {}: {} tokens in {} token blocks of {}, {}, taken {}\n",
               origin["base_model"].get<std::string>(), origin["tokens"].get<std::int64_t>(),
               origin["blocks"].get<std::int64_t>(), origin["block_length"].get<std::int64_t>(),
               origin["dtype"].get<std::string>(), origin["created"].get<std::string>());
    if (const auto machines = origin["machines"].get<std::string>(); !machines.empty()) fmt::print("{}\n", machines);
    std::size_t width = 6;
    for (const auto& module : statistics["modules"])
        width = std::max(width, module["module"].get_ref<const std::string&>().size());
    fmt::print("\n{:<{}}  {:>8}  {:>10}  {:>10}  {:>7}  {:>9}\n", "module", width, "channels", "max mean|x|", "mean mean|x|",
               "mean A", "A > 0.5");
    for (const auto& module : statistics["modules"]) {
        fmt::print("{:<{}}  {:>8}  {:>11.4g}  {:>12.4g}  {:>7.4f}  {:>8.2f}%\n", module["module"].get<std::string>(), width,
                   module["channels"].get<std::size_t>(), module["mean_abs_max"].get<double>(),
                   module["mean_abs_mean"].get<double>(), module["importance_mean"].get<double>(),
                   100 * module["share_above_half"].get<double>());
    }
    printExperts(statistics["modules"], width);
}

/// The first names of a list.
std::string someOf(const ordered_json& names) {
    constexpr std::size_t kShown = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(kShown, names.size()); ++i)
        text += (i > 0 ? ", " : "") + names[i].get<std::string>();
    return text + (names.size() > kShown ? ", ..." : "");
}

void printArchitecture(const ordered_json& architecture) {
    for (const auto& stack : architecture["stacks"]) {
        fmt::print("stack {}: {} layers {}N", stack["name"].get<std::string>(), stack["layers"].get<std::int64_t>(),
                   stack["prefix"].get<std::string>());
        if (stack.contains("prediction_layers"))
            fmt::print(", {} more for multi-token prediction", stack["prediction_layers"].get<std::int64_t>());
        const ordered_json& counts = stack["counted_by"];
        fmt::print("; {}\n", counts.empty() ? "config.json does not say how many"
                                            : "counted by " + someOf(counts) + " of config.json");
        if (!stack["lists"].empty()) fmt::print("  lists about its layers: {}\n", someOf(stack["lists"]));
        if (stack.contains("not_sliced")) fmt::print("  cannot be sliced: {}\n", stack["not_sliced"].get<std::string>());
    }
    if (architecture["stacks"].empty())
        fmt::print("no stack of layers was found: slices and gradients over depth are refused\n");
    if (const ordered_json& family = architecture["family"]; !family.is_null())
        fmt::print("known family: attention {}; MLP {}; positions {}\n", someOf(family["attention"]), someOf(family["mlp"]),
                   family["positions"].get<std::string>());
    else
        fmt::print("the model type is of no known family: what is said here was found in names, shapes and config.json\n");
    std::vector<std::string> roles;
    for (const auto& [role, count] : architecture["roles"].items())
        roles.push_back(fmt::format("{} {}", count.get<std::size_t>(), role));
    fmt::print("tensors by role: {}\n", fmt::join(roles, ", "));
    if (!architecture["beside_the_layers"].empty())
        fmt::print("{} tensors are neither before nor after layers: {}\n", architecture["beside_the_layers"].size(),
                   someOf(architecture["beside_the_layers"]));
    if (!architecture["input_axis_unknown"].empty())
        fmt::print("{} tensors do not show which axis is their input: {}\n", architecture["input_axis_unknown"].size(),
                   someOf(architecture["input_axis_unknown"]));
}

void printCheckpoint(const ordered_json& description) {
    fmt::print("{}\n{}, {} layers, hidden size {}, vocabulary {}, {} parameters, {}{}\n\n",
               description["checkpoint"].get<std::string>(), description["architecture"].get<std::string>(),
               description["layers"].get<std::int64_t>(), description["hidden_size"].get<std::int64_t>(),
               description["vocab_size"].get<std::int64_t>(), formatCount(description["parameters"].get<double>()),
               formatBytes(description["bytes"].get<std::uint64_t>()),
               description["tie_word_embeddings"].get<bool>() ? ", tied embeddings" : "");
    printArchitecture(description["structure"]);
    fmt::print("\n{:<40}  {:>7}  {:>10}\n", "shard", "tensors", "bytes");
    for (const auto& shard : description["shards"]) {
        fmt::print("{:<40}  {:>7}  {:>10}\n", shard["file"].get<std::string>(), shard["tensors"].get<std::size_t>(),
                   formatBytes(shard["bytes"].get<std::uint64_t>()));
    }
    std::size_t width = 6;
    for (const auto& tensor : description["tensors"])
        width = std::max(width, tensor["name"].get_ref<const std::string&>().size());
    fmt::print("\n{:<{}}  {:<7}  {:<16}  {:>10}  shard\n", "tensor", width, "dtype", "shape", "bytes");
    for (const auto& tensor : description["tensors"]) {
        fmt::print("{:<{}}  {:<7}  {:<16}  {:>10}  {}\n", tensor["name"].get<std::string>(), width,
                   tensor["dtype"].get<std::string>(), shapeText(tensor["shape"].get<Shape>()),
                   formatBytes(tensor["bytes"].get<std::uint64_t>()), tensor["shard"].get<std::string>());
    }
}

void declareInspect(CLI::App& app, Options& options) {
    app.add_option("path", options.subject, "Checkpoint folder, hub name, or statistics log (.h5)")->required();
    app.add_flag("--json", options.json, "Print JSON to standard output");
    app.add_flag("--dry-run", options.dryRun, "Only say what would be read");
}

void runInspect(World& world, const Options& options) {
    if (!world.isRoot()) return;
    if (options.dryRun) {
        const bool isLog = std::filesystem::is_regular_file(options.subject);
        fmt::print("would read {} {}\n", isLog ? "the statistics log" : "the headers of", options.subject);
        return;
    }
    const ordered_json description = describe(options.subject);
    if (options.json) {
        fmt::print("{}\n", description.dump(2));
        return;
    }
    const bool isCheckpoint = description.contains("checkpoint"), hasLog = description.contains("statistics");
    if (isCheckpoint) printCheckpoint(description);
    if (isCheckpoint && hasLog) fmt::print("\n");
    if (hasLog) printStatistics(description["statistics"]);
}

}  // namespace

const Command kInspectCommand{"inspect", "Show tensors, shards and statistics of a checkpoint folder or a log",
                              "aimerge inspect merged/aimerge_statistics.h5", declareInspect, runInspect};

}  // namespace aimerge
