// aimerge inspect PATH: what a checkpoint folder or a statistics log holds, as tables or as JSON.

#include "cli/options.h"

#include "aimerge/architecture/family.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

/// An expert with fewer tokens counts as one that was hardly seen.
constexpr std::int64_t kFewTokens = 100;

/// One module's line of the statistics table. Means and shares are over all channels, of fused experts over those of all.
struct ModuleSummary {
    float maximum = 0;          // of mean |x|
    double mean = 0;            // of mean |x|
    double meanImportance = 0;  // of A = a / max a, where each expert has its own maximum
    double shareAboveHalf = 0;  // of channels with A > 0.5
};

ModuleSummary summarise(const ModuleStatistics& module) {
    ModuleSummary summary;
    const std::vector<float>& statistic = module.meanAbs;
    if (statistic.empty()) return summary;
    const double values = static_cast<double>(statistic.size());
    summary.maximum = *std::max_element(statistic.begin(), statistic.end());
    summary.mean = std::accumulate(statistic.begin(), statistic.end(), 0.0) / values;
    const auto channels = static_cast<std::ptrdiff_t>(module.channels());
    for (auto row = statistic.begin(); row != statistic.end(); row += channels) {
        const std::vector<float> a = importance({row, row + channels});
        summary.meanImportance += std::accumulate(a.begin(), a.end(), 0.0) / values;
        summary.shareAboveHalf +=
            static_cast<double>(std::count_if(a.begin(), a.end(), [](float x) { return x > 0.5f; })) / values;
    }
    return summary;
}

ordered_json describeModule(const std::string& name, const ModuleStatistics& statistics) {
    const ModuleSummary summary = summarise(statistics);
    ordered_json module = {{"module", name},
                           {"channels", statistics.channels()},
                           {"tokens", statistics.tokens},
                           {"mean_abs_max", summary.maximum},
                           {"mean_abs_mean", summary.mean},
                           {"importance_mean", summary.meanImportance},
                           {"share_above_half", summary.shareAboveHalf},
                           {"input_axis", statistics.inputAxis}};
    if (!statistics.isFused()) return module;
    const auto isBelow = [](std::int64_t limit) { return [limit](std::int64_t tokens) { return tokens < limit; }; };
    module["experts"] = {{"count", statistics.experts},
                         {"without_tokens", std::ranges::count_if(statistics.expertTokens, isBelow(1))},
                         {"under_100_tokens", std::ranges::count_if(statistics.expertTokens, isBelow(kFewTokens))},
                         {"tokens", statistics.expertTokens}};
    return module;
}

ordered_json describeStatistics(const StatisticsLog& log) {
    ordered_json origin;
    origin["base_model"] = log.origin.baseModel;
    origin["base_digest"] = log.origin.baseDigest;
    origin["corpus"] = log.origin.corpus;
    origin["tokens_digest"] = log.origin.tokensDigest;
    origin["tokens"] = log.origin.tokens;
    origin["blocks"] = log.origin.blocks;
    origin["block_length"] = log.origin.blockLength;
    origin["dtype"] = log.origin.dtype;
    origin["ranks"] = log.origin.ranks;
    origin["machines"] = log.origin.machines;
    origin["created"] = log.origin.created;
    origin["revision"] = log.origin.revision;
    ordered_json modules = ordered_json::array();
    for (const auto& [name, statistics] : log.modules) modules.push_back(describeModule(name, statistics));
    return {{"statistics", {{"origin", origin}, {"modules", modules}}}};
}

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
    fmt::print("statistics of {}: {} tokens in {} blocks of {}, {}, taken {}\n", origin["base_model"].get<std::string>(),
               origin["tokens"].get<std::int64_t>(), origin["blocks"].get<std::int64_t>(),
               origin["block_length"].get<std::int64_t>(), origin["dtype"].get<std::string>(),
               origin["created"].get<std::string>());
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

/// What was understood of the structure, and what not.
ordered_json describeArchitecture(const Checkpoint& checkpoint) {
    const Architecture& architecture = checkpoint.architecture();
    ordered_json stacks = ordered_json::array();
    for (std::size_t i = 0; i < architecture.stacks().size(); ++i) {
        const Stack& stack = architecture.stacks()[i];
        std::vector<std::string> lists;
        for (const LayerList& list : stack.perLayer) lists.push_back(list.path);
        for (const LayerList& list : stack.numbers) lists.push_back(list.path);
        // The last layer twice stands for any other arrangement.
        std::vector<LayerSource> doubled;
        for (std::int64_t layer = 0; layer < stack.layers; ++layer) doubled.push_back({&architecture, layer});
        if (stack.layers > 0) doubled.push_back({&architecture, stack.layers - 1});
        ordered_json entry{{"name", stack.name},
                           {"prefix", stack.prefix},
                           {"layers", stack.layers},
                           {"counted_by", stack.countPaths},
                           {"lists", lists}};
        if (stack.predictionLayers > 0) entry["prediction_layers"] = stack.predictionLayers;
        if (const std::string why = architecture.whyNotRenumbered(i, doubled); !why.empty()) entry["not_sliced"] = why;
        stacks.push_back(std::move(entry));
    }
    std::map<std::string, std::size_t> roles;
    ordered_json notPlaced = ordered_json::array(), unknownAxis = ordered_json::array();
    for (const TensorInfo& tensor : checkpoint.tensors()) {
        const Parameter parameter = architecture.describe(tensor);
        ++roles[std::string(roleName(parameter.role))];
        if (parameter.place.part == Part::Aside && parameter.role != Role::Buffer) notPlaced.push_back(tensor.name);
        if (!parameter.inputAxisIsKnown) unknownAxis.push_back(tensor.name);
    }
    ordered_json family;
    if (const Family* known = architecture.family()) {
        std::vector<std::string_view> attention, mlp;
        for (const LinearModule& module : known->attention) attention.push_back(module.name);
        for (const LinearModule& module : known->mlp) mlp.push_back(module.name);
        family = {
            {"attention", attention}, {"mlp", mlp}, {"norms", known->norms}, {"positions", positionsName(known->positions)}};
    }
    ordered_json description{{"model_type", architecture.modelType()},
                             {"class", architecture.className()},
                             {"family", family},
                             {"stacks", stacks},
                             {"roles", roles},
                             {"embedding", architecture.embedding()},
                             {"head", architecture.head()},
                             {"beside_the_layers", notPlaced},
                             {"input_axis_unknown", unknownAxis}};
    return description;
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

ordered_json describeCheckpoint(const Checkpoint& checkpoint) {
    std::map<std::string, std::pair<std::size_t, std::int64_t>> dtypes;  // tensors, elements
    std::vector<std::pair<std::size_t, std::uint64_t>> shardContents(checkpoint.files().size());
    ordered_json tensors = ordered_json::array();
    std::int64_t parameters = 0;
    for (const TensorInfo& tensor : checkpoint.tensors()) {
        const std::string dtype(safetensorsName(tensor.dtype));
        auto& [count, elements] = dtypes[dtype];
        ++count, elements += tensor.elements();
        parameters += tensor.elements();
        auto& [held, bytes] = shardContents[tensor.fileIndex];
        ++held, bytes += tensor.bytes.size();
        tensors.push_back({{"name", tensor.name},
                           {"dtype", dtype},
                           {"shape", tensor.shape},
                           {"bytes", tensor.bytes.size()},
                           {"shard", checkpoint.files()[tensor.fileIndex].filename().string()}});
    }
    ordered_json shards = ordered_json::array();
    for (std::size_t i = 0; i < shardContents.size(); ++i) {
        shards.push_back({{"file", checkpoint.files()[i].filename().string()},
                          {"tensors", shardContents[i].first},
                          {"bytes", shardContents[i].second}});
    }
    ordered_json byDtype;
    for (const auto& [dtype, contents] : dtypes)
        byDtype[dtype] = {{"tensors", contents.first}, {"elements", contents.second}};
    const ModelConfig& config = checkpoint.modelConfig();
    return {{"checkpoint", checkpoint.folder().string()},
            {"architecture", config.architecture},
            {"structure", describeArchitecture(checkpoint)},
            {"layers", checkpoint.architecture().layers()},
            {"hidden_size", checkpoint.architecture().hiddenSize()},
            {"vocab_size", checkpoint.architecture().vocabularySize()},
            {"tie_word_embeddings", config.tieWordEmbeddings},
            {"parameters", parameters},
            {"bytes", checkpoint.totalBytes()},
            {"dtypes", byDtype},
            {"shards", shards},
            {"tensors", tensors}};
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
    const std::filesystem::path path = options.subject;
    const bool isLog = std::filesystem::is_regular_file(path);
    if (options.dryRun) {
        fmt::print("would read {} {}\n", isLog ? "the statistics log" : "the headers of", options.subject);
        return;
    }
    ordered_json description;
    std::filesystem::path log = path;
    if (!isLog) {
        const Checkpoint checkpoint = Checkpoint::open(options.subject);
        description = describeCheckpoint(checkpoint);
        log = checkpoint.folder() / kStatisticsLogName;
    }
    const bool hasLog = std::filesystem::is_regular_file(log);
    if (hasLog) description.update(describeStatistics(readStatisticsLog(log)));

    if (options.json) {
        fmt::print("{}\n", description.dump(2));
        return;
    }
    if (!isLog) printCheckpoint(description);
    if (!isLog && hasLog) fmt::print("\n");
    if (hasLog) printStatistics(description["statistics"]);
}

}  // namespace

const Command kInspectCommand{"inspect", "Show the tensors, shards and statistics of a checkpoint folder or a log",
                              "aimerge inspect merged/aimerge_statistics.h5", declareInspect, runInspect};

}  // namespace aimerge
