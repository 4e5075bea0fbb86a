#include "job/expert_statistics_step.h"
#include "job/featcal_step.h"
#include "job/merge_job.h"
#include "job/plan_step.h"
#include "job/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/core/storage_rate.h"
#include "aimerge/job/job.h"
#include "aimerge/simulation/simulate.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

namespace aimerge {
namespace {

/// A job plans by the same hardware on every machine of a kind.
void planFor(const Machine& machine, PlanSettings& settings) {
    settings.ranks = machine.ranks();
    settings.threadsPerRank = machine.threadsPerRank;
    if (settings.memoryLimit == 0) settings.memoryLimit = usableGpuMemory(machine.memoryBytes);
    settings.hardware = machine.isGpu ? gpuHardware() : processorHardware(machine.threadsPerRank);
    settings.hardware.name = machine.name;
}

JobTimes timesOn(const Machine& machine, const MergeJob& job, const JobOptions& options, const Plan& plan,
                 const PlanSettings& settings) {
    const Checkpoint& base = job.base();
    return simulate({plan, settings, machine, base.architecture().layers(), base.modelConfig().hiddenSize, base.totalBytes(),
                     options.gathersAtRoot});
}

/// How fast this machine reads the models now.
StorageRate storageOf(const MergeJob& job) {
    std::vector<PieceAhead> pieces;
    for (const Checkpoint& model : job.models.models)
        for (const TensorInfo& tensor : model.tensors())
            std::ranges::copy(model.piecesOf(tensor, Reading::Once), std::back_inserter(pieces));
    return measureStorage(pieces);
}

nlohmann::ordered_json storageJson(const StorageRate& rate) {
    return {{"read_bytes", rate.bytes},
            {"cached_bytes", rate.cachedBytes},
            {"bytes_per_second", rate.bytesPerSecond > 0 ? nlohmann::ordered_json(rate.bytesPerSecond) : nullptr},
            {"seconds", rate.seconds()}};
}

PlannedMerge planDocument(const World& world, const JobOptions& options, const PlanRequest& request,
                          const MergeConfig& config) {
    const MergeJob job = openMergeJob(config, options.maxShardSize);
    requireExpertCalibration(job);
    CalibrationSize calibration;
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        calibration = calibrationSize(job.config.aim->calibration, job.base());
    PlanSettings settings = planSettings(world, options, calibration, job);
    std::optional<Machine> machine;
    if (!request.hardware.empty()) planFor(machine.emplace(findMachine(request.hardware)), settings);
    if (request.ranks > 0) settings.ranks = request.ranks;
    if (machine && settings.ranks > machine->ranks())
        throw UsageError("--ranks {}: {} has {}", settings.ranks, machine->name, machine->ranks());
    const Plan plan = makePlan(job.base(), job.outputs, settings);
    const std::optional<Coverage> coverage = plannedCoverage(job);
    PlannedMerge planned{nlohmann::ordered_json::parse(plan.toJson()),
                         planTable(plan, settings, freeDiskBytes(options.out.empty() ? "." : options.out))};
    nlohmann::ordered_json& json = planned.json;
    if (coverage) json["coverage"] = coverage->json();
    if (job.featcal) json["featcal"] = featcalPlan(job, settings);
    if (machine) {
        const JobTimes times = timesOn(*machine, job, options, plan, settings);
        json["hardware"] = settings.hardware.name;
        json["seconds"] = times.seconds();
        json["phases"] = timesJson(times);
        planned.table += timesTable(times, *machine);
    } else {
        const StorageRate storage = storageOf(job);
        json["storage"] = storageJson(storage);
        planned.table += fmt::format("models  {}\n", storageText(storage));
    }
    planned.table += expertStatisticsLines(job, settings) + featcalLine(job, settings) + coverageLine(coverage);
    return planned;
}

}  // namespace

std::vector<PlannedMerge> plan(World& world, const JobOptions& options, const ConfigText& config,
                               const PlanRequest& request) {
    const std::vector<MergeConfig> documents = shareConfigs(world, options, config, ConfigUse::Merge);
    std::vector<PlannedMerge> plans;
    if (!world.isRoot()) return plans;
    for (std::size_t i = 0; i < documents.size(); ++i) {
        announceDocument(documents, i, {});
        if (!mustWaitForOthers(documents[i])) plans.push_back(planDocument(world, options, request, documents[i]));
    }
    return plans;
}

}  // namespace aimerge
