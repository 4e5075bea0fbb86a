// aimerge inspect PATH: what a checkpoint folder or a statistics log holds, as tables or as JSON.

#include "cli/options.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

/// One module's line of the statistics table.
struct ModuleSummary {
    std::size_t channels = 0;
    float maximum = 0;          // of mean |x|
    double mean = 0;            // of mean |x|
    double meanImportance = 0;  // of A = a / max a
    double shareAboveHalf = 0;  // of channels with A > 0.5
};

ModuleSummary summarise(const std::vector<float>& statistic) {
    ModuleSummary summary;
    summary.channels = statistic.size();
    if (statistic.empty()) return summary;
    const double channels = static_cast<double>(statistic.size());
    const std::vector<float> a = importance(statistic);
    summary.maximum = *std::max_element(statistic.begin(), statistic.end());
    summary.mean = std::accumulate(statistic.begin(), statistic.end(), 0.0) / channels;
    summary.meanImportance = std::accumulate(a.begin(), a.end(), 0.0) / channels;
    summary.shareAboveHalf =
        static_cast<double>(std::count_if(a.begin(), a.end(), [](float x) { return x > 0.5f; })) / channels;
    return summary;
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
    origin["created"] = log.origin.created;
    ordered_json modules = ordered_json::array();
    for (const auto& [name, statistics] : log.modules) {
        const ModuleSummary summary = summarise(statistics.meanAbs);
        modules.push_back({{"module", name},
                           {"channels", summary.channels},
                           {"tokens", statistics.tokens},
                           {"mean_abs_max", summary.maximum},
                           {"mean_abs_mean", summary.mean},
                           {"importance_mean", summary.meanImportance},
                           {"share_above_half", summary.shareAboveHalf}});
    }
    return {{"statistics", {{"origin", origin}, {"modules", modules}}}};
}

void printStatistics(const ordered_json& statistics) {
    const ordered_json& origin = statistics["origin"];
    fmt::print("statistics of {}: {} tokens in {} blocks of {}, {}, taken {}\n", origin["base_model"].get<std::string>(),
               origin["tokens"].get<std::int64_t>(), origin["blocks"].get<std::int64_t>(),
               origin["block_length"].get<std::int64_t>(), origin["dtype"].get<std::string>(),
               origin["created"].get<std::string>());
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
            {"layers", config.layers},
            {"hidden_size", config.hiddenSize},
            {"vocab_size", config.vocabSize},
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
    fmt::print("{:<40}  {:>7}  {:>10}\n", "shard", "tensors", "bytes");
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
                              declareInspect, runInspect};

}  // namespace aimerge
