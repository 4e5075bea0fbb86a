// aimerge plan CONFIG: who would do what, from headers alone.

#include "cli/expert_statistics_step.h"
#include "cli/merge_job.h"
#include "cli/options.h"
#include "cli/plan_step.h"
#include "cli/shared_config.h"

#include "aimerge/core/size_text.h"

#include <fmt/core.h>

namespace aimerge {
namespace {

void declarePlan(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Merge config (YAML)")->required();
    app.add_option("--out", options.out, "Output folder, for the check of free disk space (default: here)");
    app.add_option("--max-shard-size", options.maxShardSize, "Largest shard to write")->capture_default_str();
    app.add_option("--ranks", options.plannedRanks, "Plan for this many ranks (default: those the command runs on)")
        ->check(CLI::Range(1, 65536));
    app.add_flag("--json", options.json, "Print JSON to standard output");
    declareJobOptions(app, options);
}

void planDocument(const World& world, const Options& options, const MergeConfig& config) {
    const MergeJob job = openMergeJob(config, parseSize(options.maxShardSize));
    requireExpertCalibration(job);
    CalibrationSize calibration;
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        calibration = calibrationSize(job.config.aim->calibration, job.base());
    PlanSettings settings = planSettings(world, options, calibration, job);
    if (options.plannedRanks > 0) settings.ranks = options.plannedRanks;
    const Plan plan = makePlan(job.base(), job.outputs, settings);
    fmt::print("{}\n", options.json ? plan.toJson()
                                    : planTable(plan, settings, freeDiskBytes(options.out.empty() ? "." : options.out)) +
                                          expertStatisticsLine(job));
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

const Command kPlanCommand{"plan", "Show per rank what a merge would read, write, hold and compute", declarePlan, runPlan};

}  // namespace aimerge
