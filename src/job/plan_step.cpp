#include "job/plan_step.h"

#include "job/merge_reading.h"
#include "job/statistics_step.h"

#include "aimerge/core/error.h"
#include "aimerge/core/process_limits.h"
#include "aimerge/core/read_ahead.h"
#include "aimerge/core/size_text.h"
#include "aimerge/corpus/token_blocks.h"
#include "aimerge/merge/coverage.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/resolve_parameters.h"
#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>
#include <map>

namespace aimerge {
namespace {

/// Bytes of the largest layer, or of the embedding if it is larger.
std::uint64_t largestPartBytes(const Architecture& architecture, const std::vector<OutputTensor>& outputs) {
    std::map<std::int64_t, std::uint64_t> bytes;  // by layer
    constexpr std::int64_t kEmbedding = -1;
    for (const OutputTensor& output : outputs) {
        const Place place = architecture.placeOf(output.name);
        const std::uint64_t own = static_cast<std::uint64_t>(elementCount(output.shape)) * bytesPerElement(output.dtype);
        if (place.part == Part::Layer && place.stack == 0) bytes[place.layer] += own;
        if (place.part == Part::BeforeLayers) bytes[kEmbedding] += own;
    }
    std::uint64_t largest = 0;
    for (const auto& [part, own] : bytes) largest = std::max(largest, own);
    return largest;
}

/// Without --read-ahead. @param settings of the merge, but for this @param passes over the same models
std::uint64_t usefulReadAhead(const World& world, const MergeJob& job, const PlanSettings& settings, std::size_t passes) {
    constexpr std::uint64_t kOnTheirWay = std::uint64_t{64} << 20;
    const auto threads = static_cast<std::uint64_t>(settings.threadsPerRank);
    // A piece that a thread is working through, and the next one; of every input.
    const std::uint64_t passing = kOnTheirWay + 2 * kReadAheadPieceBytes * settings.inputs * threads;
    const std::uint64_t merging = settings.mergeBytesPerThread * threads + settings.mergeParameterBytes;
    const std::uint64_t free = settings.memoryLimit > 0
                                   ? settings.memoryLimit - std::min(settings.memoryLimit, merging)
                                   : availableMemory() / static_cast<std::uint64_t>(world.ranksOnNode()) / 4;
    const std::uint64_t kept = memoryToReadOnce(job, passes, settings.threadsPerRank, free - std::min(free, passing));
    const std::uint64_t useful = std::min(passing, bytesOf(job.models)) + kept;
    return settings.memoryLimit > 0 ? std::min(useful, free) : useful;
}

}  // namespace

Hardware hardwareOf(const World& world, const JobOptions& options) {
    return options.computesOn.isGpu() ? gpuHardware() : processorHardware(threadsPerRank(world, options));
}

CalibrationSize calibrationSize(const CalibrationConfig& config, const Checkpoint& base) {
    if (config.tokenIds.empty()) return {config.sequences, config.sequenceLength, &config};
    const TokenBlocks blocks = loadTokenBlocks(config, base);
    return {blocks.blocks, blocks.length, &config};
}

PlanSettings planSettings(const World& world, const JobOptions& options, const CalibrationSize& calibration) {
    PlanSettings settings;
    settings.ranks = world.size();
    settings.threadsPerRank = threadsPerRank(world, options);
    settings.hardware = hardwareOf(world, options);
    settings.memoryLimit = memoryLimitBytes(options);
    settings.blocks = calibration.blocks;
    settings.blockLength = calibration.blockLength;
    if (calibration.config) {
        settings.microBatch = calibration.config->microBatch;
        settings.computeDtype = calibration.config->dtype;
    }
    settings.stages = options.stages;
    settings.replicas = options.replicas;
    settings.merging = false;
    return settings;
}

PlanSettings planSettings(const World& world, const JobOptions& options, const CalibrationSize& calibration,
                          const MergeJob& job) {
    PlanSettings settings = planSettings(world, options, calibration);
    settings.merging = true;
    settings.inputs = 0;
    settings.inputBytesPerElement = 0;
    for (const MatchedTensor& tensor : job.tensors) {
        settings.inputs = std::max(settings.inputs, tensor.inputs.size());
        for (const MatchedInput& input : tensor.inputs) {
            if (input.tensor)
                settings.inputBytesPerElement =
                    std::max<std::uint64_t>(settings.inputBytesPerElement, bytesPerElement(input.tensor->dtype));
        }
    }
    settings.omegas = job.points.size();
    if (job.isSequential()) {
        settings.replicas = 1;
        settings.mergedAtOnceBytes = largestPartBytes(job.models.output, job.outputs);
    }
    const bool readsFisher = job.method->info().needs == ExpertStatistic::Fisher;
    const bool readsImportances = job.config.aim && job.config.aim->isPerElement();
    settings.mergeBytesPerThread =
        mergeBufferBytesPerThread((readsFisher ? 2 : 1) * settings.inputs + (readsImportances ? 1 : 0), settings.omegas);
    std::vector<std::uint64_t> workingBytes;
    for (std::size_t i = 0; i < job.tensors.size(); ++i) {
        const MatchedTensor& tensor = job.tensors[i];
        if (tensor.action != MatchedTensor::Action::Merge) continue;
        const ResolvedParameters values = tensorParameters(*job.method, job.config, job.models, tensor);
        std::vector<MatrixPart> parts = job.models.output.partsOf(tensor.name, job.outputs[i].shape);
        if (parts.empty()) parts.push_back({tensor.name, 0, 0, job.outputs[i].shape});
        std::uint64_t bytes = 0;
        const Method& method = *methodFor(*job.method, job.models.slices[tensor.slice], tensor).method;
        for (const MatrixPart& part : parts) bytes += method.workingBytes(tensor.parameter.role, part.shape, values);
        workingBytes.push_back(bytes);
    }
    settings.mergeParameterBytes = mergeParameterBytes(workingBytes);
    settings.readAheadBytes = options.readAhead ? *options.readAhead : usefulReadAhead(world, job, settings, 1);
    return settings;
}

std::uint64_t readAheadBytes(const World& world, const JobOptions& options, const MergeJob& job, std::size_t passes) {
    const PlanSettings settings = planSettings(world, options, {}, job);
    return passes > 1 && !options.readAhead ? usefulReadAhead(world, job, settings, passes) : settings.readAheadBytes;
}

Coverage requiredCoverage(const MergeJob& job, const StatisticsByModule& statistics) {
    const Coverage coverage = coverageOf(job.models, job.tensors, *job.config.aim, statistics);
    coverage.requireStacks();
    return coverage;
}

std::optional<Coverage> plannedCoverage(const MergeJob& job) {
    if (!job.config.aim) return std::nullopt;
    const AimConfig& aim = *job.config.aim;
    const StatisticsByModule statistics = aim.statisticsPath.empty()
                                              ? modulesToMeasure(job.base())
                                              : lookAtGivenStatistics(aim.statisticsPath, job.base()).modules;
    const Coverage coverage = requiredCoverage(job, statistics);
    coverage.warn();
    return coverage;
}

std::string coverageLine(const std::optional<Coverage>& coverage) {
    return coverage ? fmt::format("AIM: {}\n", coverage->text()) : "";
}

Plan planEvaluation(World& world, const JobOptions& options, const Evaluation& evaluation, const Checkpoint& model) {
    PlanSettings settings = evaluation.planSettings();
    settings.ranks = world.size();
    settings.threadsPerRank = threadsPerRank(world, options);
    settings.hardware = hardwareOf(world, options);
    settings.memoryLimit = memoryLimitBytes(options);
    return Plan::fromJson(world.broadcast(world.isRoot() ? makePlan(model, {}, settings).toJson() : ""));
}

std::uint64_t freeDiskBytes(const std::filesystem::path& path) {
    std::filesystem::path existing = std::filesystem::absolute(path);
    while (!std::filesystem::exists(existing)) existing = existing.parent_path();
    return std::filesystem::space(existing).available;
}

void requireDiskSpace(const Plan& plan, const std::filesystem::path& target) {
    const std::uint64_t free = freeDiskBytes(target);
    if (plan.totalBytesToWrite() > free) {
        throw UsageError("{}: the output needs {}, the disk has {} free; choose another --out or fewer values of omega",
                         target.string(), formatBytes(plan.totalBytesToWrite()), formatBytes(free));
    }
}

}  // namespace aimerge
