#include "job/featcal_step.h"

#include "job/plan_step.h"
#include "job/statistics_step.h"

#include "aimerge/calibration/featcal_cost.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"
#include "aimerge/merge/adapted_weights.h"
#include "aimerge/torch/torch_library.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <list>
#include <map>
#include <utility>

namespace aimerge {
namespace {

FeatcalSize sizeOf(const MergeJob& job, std::int64_t tokens, int ranks, bool onGpu) {
    return {.points = static_cast<std::int64_t>(job.points.size()),
            .teachers = static_cast<std::int64_t>(job.featcal->teachers.size()),
            .tokens = tokens,
            .ranks = ranksWithTexts(tokens, ranks, onGpu),
            .dtype = job.featcal->teachers.front().calibration.dtype};
}

/// @return whether hidden states are to lie on disk @throws UsageError when not even that helps
bool needsDisk(const FeatcalMemory& memory, std::uint64_t limit) {
    if (limit == 0 || memory.all() <= limit) return false;
    if (memory.layers + memory.sums > limit)
        throw UsageError("--memory-limit {} is too small: featcal takes {} for a layer of each model and its sums",
                         formatBytes(limit), formatBytes(memory.layers + memory.sums));
    return true;
}

void requireUnchanged(const MergeJob& job) {
    for (const FeatcalTeacherModel& teacher : job.featcal->teachers) teacher.model.in(job).requireUnchanged();
    for (const FeatcalModel& base : job.featcal->base) base.in(job).requireUnchanged();
}

struct PlannedFeatcal {
    FeatcalSize size;
    double flops = 0, seconds = 0;
    std::uint64_t memoryBytes = 0, diskBytes = 0;  // of rank 0
};

/// With as many tokens as the config asks for.
PlannedFeatcal plannedFeatcal(const MergeJob& job, const PlanSettings& settings) {
    std::int64_t tokens = 0;
    for (const FeatcalTeacherModel& teacher : job.featcal->teachers) {
        const CalibrationSize size = calibrationSize(teacher.calibration, teacher.model.in(job));
        tokens += size.blocks * size.blockLength;
    }
    PlannedFeatcal planned{.size = sizeOf(job, tokens, settings.ranks, settings.hardware.isGpu)};
    const ModelConfig& config = job.base().modelConfig();
    const FeatcalMemory memory = featcalMemory(config, planned.size);
    const FeatcalWork work = featcalWork(config, planned.size);
    const Hardware& hardware = settings.hardware;
    planned.flops = work.flops();
    planned.seconds = work.forward / (hardware.flopsPerSecond * planned.size.ranks) +
                      work.products / (hardware.exactFlopsPerSecond * planned.size.ranks) +
                      work.solutions / hardware.exactFlopsPerSecond + work.sentBytes / hardware.messageBytesPerSecond;
    const bool isOnDisk = needsDisk(memory, settings.memoryLimit);
    planned.memoryBytes = isOnDisk ? memory.layers + memory.sums : memory.all();
    planned.diskBytes = isOnDisk ? memory.states : 0;
    return planned;
}

/// What tensors of a role are called: one, several.
std::pair<std::string, std::string> kindOf(Role role) {
    switch (role) {
        case Role::Embedding:
            return {"embedding", "embeddings"};
        case Role::Linear:
            return {"matrix", "matrices"};
        case Role::Norm:
            return {"norm", "norms"};
        case Role::Bias:
            return {"bias", "biases"};
        case Role::Head:
            return {"head", "heads"};
        default:
            return {"other tensor", "other tensors"};
    }
}

using Kinds = std::map<std::pair<std::string, std::string>, std::size_t>;

/// How many of the output's tensors are fitted, or keep what the merge made of them.
Kinds countKinds(const MergeJob& job, bool areFitted) {
    Kinds kinds;
    for (const MatchedTensor& tensor : job.tensors)
        if (job.featcal->tensors.contains(tensor.name) == areFitted) ++kinds[kindOf(tensor.parameter.role)];
    return kinds;
}

std::string kindsText(const Kinds& kinds) {
    std::vector<std::string> texts;
    for (const auto& [names, count] : kinds)
        texts.push_back(fmt::format("{} {}", count, count == 1 ? names.first : names.second));
    return texts.empty() ? "nothing" : fmt::format("{}", fmt::join(texts, ", "));
}

const char* expertsWord(const MergeJob& job) {
    return job.featcal->teachers.size() == 1 ? "expert" : "experts";
}

nlohmann::ordered_json kindsJson(const Kinds& kinds) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    for (const auto& [names, count] : kinds) json[names.second] = count;
    return json;
}

}  // namespace

std::int64_t FeatcalTexts::tokens() const {
    std::int64_t tokens = 0;
    for (const TokenBlocks& own : blocks) tokens += own.blocks * own.length;
    return tokens;
}

FeatcalTexts provideFeatcalTexts(World& world, const JobOptions& options, const MergeJob& job) {
    const Phase phase("prepare");
    FeatcalTexts texts;
    Hasher hasher;
    for (const FeatcalTeacherModel& teacher : job.featcal->teachers) {
        TokenBlocks blocks;
        if (world.isRoot()) blocks = loadTokenBlocks(teacher.calibration, teacher.model.in(job));
        texts.blocks.push_back(broadcastBlocks(world, blocks));
        hasher.updateField(digestOf(texts.blocks.back()).hex()).updateField(options.computesOn.name);
        hasher.updateField(torchName(teacher.calibration.dtype)).updateField(std::to_string(teacher.calibration.microBatch));
    }
    texts.keys = "featcal " + hasher.digest().hex() + "\n";
    return texts;
}

MergedPoints::MergedPoints(const MergePass& pass, int threads, const Device& device)
    : pass_(pass), threads_(threads), device_(device), exactOutputs_(pass.job.outputs) {
    for (OutputTensor& output : exactOutputs_)
        if (isMergeable(output.dtype)) output.dtype = Dtype::F32;
}

template <typename IsWanted>
void MergedPoints::merge(const std::vector<OutputTensor>& outputs, const IsWanted& isWanted, MergedPart& part) {
    std::vector<std::string> names;
    for (const OutputTensor& output : outputs)
        if (isWanted(job().models.output.placeOf(output.name))) names.push_back(output.name);
    part.points.reset();
    part.points.emplace(job(), outputs, names, memory_);
    MergePass pass{job(), names, pass_.statistics, pass_.experts, pass_.sensitivity, *part.points};
    pass.otherOutputs = &outputs;
    mergeNow(pass, threads_, device_);
}

void MergedPoints::mergeLayer(const std::vector<OutputTensor>& outputs, std::int64_t layer, MergedPart& part) {
    if (part.layer == layer) return;
    merge(
        outputs, [&](const Place& place) { return place.isLayer(0, layer); }, part);
    part.layer = layer;
}

std::unique_ptr<WeightSource> MergedPoints::embedding(std::size_t point) {
    if (!embedding_.points)
        merge(
            job().outputs, [](const Place& place) { return place.part == Part::BeforeLayers; }, embedding_);
    return embedding_.points->point(point, "the merged model");
}

std::unique_ptr<WeightSource> MergedPoints::layer(std::size_t point, std::int64_t layer) {
    embedding_.points.reset();
    mergeLayer(job().outputs, layer, layer_);
    return layer_.points->point(point, "the merged model");
}

std::unique_ptr<WeightSource> MergedPoints::exactLayer(std::size_t point, std::int64_t layer) {
    mergeLayer(exactOutputs_, layer, exactLayer_);
    return exactLayer_.points->point(point, "the merged model");
}

FeatcalResult runFeatcal(World& world, const JobOptions& options, const MergeJob& job, const FeatcalTexts& texts,
                         FeatcalTarget& target) {
    const FeatcalConfig& config = *job.config.featcal;
    std::list<AdaptedWeights> models;
    std::vector<FeatcalTeacher> teachers;
    for (std::size_t t = 0; t < job.featcal->teachers.size(); ++t) {
        const FeatcalTeacherModel& teacher = job.featcal->teachers[t];
        models.emplace_back(teacher.model.in(job));
        teachers.push_back({models.back(), texts.blocks[t], teacher.calibration.microBatch, teacher.weight});
    }
    std::optional<AdaptedWeights> base;
    if (!job.featcal->base.empty()) base.emplace(job.featcal->base.front().in(job));
    const FeatcalMemory memory =
        featcalMemory(job.base().modelConfig(), sizeOf(job, texts.tokens(), world.size(), options.computesOn.isGpu()));
    const FeatcalJob work{.teachers = teachers,
                          .base = base ? &*base : nullptr,
                          .lambda = config.lambda,
                          .rho = config.rho,
                          .alpha = config.alpha,
                          .dtype = job.featcal->teachers.front().calibration.dtype,
                          .target = target,
                          .threads = threadsPerRank(world, options),
                          .keepsStatesOnDisk = needsDisk(memory, memoryLimitBytes(options)),
                          .progress = progressListener(world, options),
                          .safePoint = throwIfInterrupted,
                          .device = options.computesOn};
    Phase phase("featcal");
    FeatcalResult result = calibrateFeaturesWithTorch(world, work);
    phase.addRead(result.bytesRead);
    if (world.isRoot()) phase.addTokens(static_cast<std::uint64_t>(texts.tokens()));
    phase.lookAtMemoryOf(options.computesOn);
    if (world.isRoot()) requireUnchanged(job);
    return result;
}

std::string featcalText(const MergeJob& job, std::int64_t tokens) {
    return fmt::format("fitted {} to {} {} on {} tokens; kept their merged value: {}", kindsText(countKinds(job, true)),
                       job.featcal->teachers.size(), expertsWord(job), tokens, kindsText(countKinds(job, false)));
}

nlohmann::ordered_json featcalJson(const MergeJob& job, std::int64_t tokens) {
    nlohmann::ordered_json experts = nlohmann::ordered_json::array();
    for (const FeatcalTeacherModel& teacher : job.featcal->teachers)
        experts.push_back({{"model", job.config.nameInFile(teacher.model.in(job).name())}, {"weight", teacher.weight}});
    return {{"lambda", job.config.featcal->lambda},
            {"rho", job.config.featcal->rho},
            {"alpha", job.config.featcal->alpha},
            {"experts", experts},
            {"tokens", tokens},
            {"fitted", kindsJson(countKinds(job, true))},
            {"kept", kindsJson(countKinds(job, false))}};
}

nlohmann::ordered_json featcalPlan(const MergeJob& job, const PlanSettings& settings) {
    const PlannedFeatcal planned = plannedFeatcal(job, settings);
    nlohmann::ordered_json json{{"fitted", kindsJson(countKinds(job, true))},
                                {"tokens", planned.size.tokens},
                                {"flops", planned.flops},
                                {"memory_bytes", planned.memoryBytes},
                                {"disk_bytes", planned.diskBytes}};
    if (!settings.hardware.name.empty()) json["seconds"] = planned.seconds;
    return json;
}

std::string featcalLine(const MergeJob& job, const PlanSettings& settings) {
    if (!job.featcal) return {};
    const PlannedFeatcal planned = plannedFeatcal(job, settings);
    std::string line =
        fmt::format("featcal: {} on up to {} tokens of {} {}, {:.3g} TFLOP; memory of rank 0 {} beside the merge's",
                    kindsText(countKinds(job, true)), planned.size.tokens, planned.size.teachers, expertsWord(job),
                    planned.flops * 1e-12, formatBytes(planned.memoryBytes));
    if (planned.diskBytes > 0) line += fmt::format(", and {} of hidden states on disk", formatBytes(planned.diskBytes));
    if (!settings.hardware.name.empty()) line += fmt::format("; about {}", formatSeconds(planned.seconds));
    return line + "\n";
}

}  // namespace aimerge
