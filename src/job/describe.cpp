#include "aimerge/architecture/family.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/job/job.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/statistics/statistics_log.h"

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

}  // namespace

nlohmann::ordered_json describe(const std::string& path) {
    ordered_json description;
    std::filesystem::path log = path;
    if (!std::filesystem::is_regular_file(path)) {
        const Checkpoint checkpoint = Checkpoint::open(path);
        description = describeCheckpoint(checkpoint);
        log = checkpoint.folder() / kStatisticsLogName;
    }
    if (std::filesystem::is_regular_file(log)) description.update(describeStatistics(readStatisticsLog(log)));
    return description;
}

}  // namespace aimerge
