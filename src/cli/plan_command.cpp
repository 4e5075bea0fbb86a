// aimerge plan CONFIG: who would do what, from headers alone.

#include "cli/expert_statistics_step.h"
#include "cli/featcal_step.h"
#include "cli/merge_job.h"
#include "cli/options.h"
#include "cli/plan_step.h"
#include "cli/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/core/storage_rate.h"
#include "aimerge/simulation/simulate.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

namespace aimerge {
namespace {

void declarePlan(CLI::App& app, Options& options) {
    declareConfig(app, options);
    app.add_option("--out", options.out, "Output folder, for the check of free disk space (default: here)");
    declareShardSize(app, options);
    declareGather(app, options);
    app.add_option("--ranks", options.plannedRanks, "Plan for this many ranks (default: those the command runs on)")
        ->check(CLI::Range(1, 65536));
    app.add_option("--hardware", options.hardware,
                   "Plan for another machine, and simulate how long the job takes there: h100x4, or a "
                   "YAML file such as those of configs/hardware");
    app.add_flag("--json", options.json, "Print JSON to standard output");
    declareJobOptions(app, options);
    declareReadAhead(app, options);
}

/// A job plans by the same hardware on every machine of a kind.
void planFor(const Machine& machine, PlanSettings& settings) {
    settings.ranks = machine.ranks();
    settings.threadsPerRank = machine.threadsPerRank;
    if (settings.memoryLimit == 0) settings.memoryLimit = usableGpuMemory(machine.memoryBytes);
    settings.hardware = machine.isGpu ? gpuHardware() : processorHardware(machine.threadsPerRank);
    settings.hardware.name = machine.name;
}

JobTimes timesOn(const Machine& machine, const MergeJob& job, const Options& options, const Plan& plan,
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

/// The plan, what AIM would relax, and the simulated times with --hardware, without it how fast the models are read here.
std::string jsonOf(const MergeJob& job, const Plan& plan, const PlanSettings& settings,
                   const std::optional<JobTimes>& times) {
    auto json = nlohmann::ordered_json::parse(plan.toJson());
    if (const std::optional<Coverage> coverage = plannedCoverage(job)) json["coverage"] = coverage->json();
    if (job.featcal) json["featcal"] = featcalPlan(job, settings);
    if (times) {
        json["hardware"] = settings.hardware.name;
        json["seconds"] = times->seconds();
        json["phases"] = timesJson(*times);
    } else {
        json["storage"] = storageJson(storageOf(job));
    }
    return json.dump();
}

void planDocument(const World& world, const Options& options, const MergeConfig& config) {
    const MergeJob job = openMergeJob(config, parseSize(options.maxShardSize));
    requireExpertCalibration(job);
    CalibrationSize calibration;
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        calibration = calibrationSize(job.config.aim->calibration, job.base());
    PlanSettings settings = planSettings(world, options, calibration, job);
    std::optional<Machine> machine;
    if (!options.hardware.empty()) planFor(machine.emplace(findMachine(options.hardware)), settings);
    if (options.plannedRanks > 0) settings.ranks = options.plannedRanks;
    if (machine && settings.ranks > machine->ranks())
        throw UsageError("--ranks {}: {} has {}", settings.ranks, machine->name, machine->ranks());
    const Plan plan = makePlan(job.base(), job.outputs, settings);
    std::optional<JobTimes> times;
    if (machine) times = timesOn(*machine, job, options, plan, settings);
    if (options.json) return fmt::print("{}\n", jsonOf(job, plan, settings, times));
    fmt::print("{}{}{}\n", planTable(plan, settings, freeDiskBytes(options.out.empty() ? "." : options.out)),
               times ? timesTable(*times, *machine) : fmt::format("models  {}\n", storageText(storageOf(job))),
               expertStatisticsLines(job, settings) + featcalLine(job, settings) + coverageLine(job));
}

void runPlan(World& world, const Options& options) {
    const std::vector<MergeConfig> documents = shareConfigs(world, options, ConfigUse::Merge);
    if (!world.isRoot()) return;
    for (std::size_t i = 0; i < documents.size(); ++i) {
        announceDocument(documents, i, {});
        if (!mustWaitForOthers(documents[i])) planDocument(world, options, documents[i]);
    }
}

}  // namespace

const Command kPlanCommand{"plan", "Show per rank what a merge would read, write, hold and compute",
                           "aimerge plan configs/smollm2-ties-aim.yaml --ranks 4", declarePlan, runPlan};

}  // namespace aimerge
