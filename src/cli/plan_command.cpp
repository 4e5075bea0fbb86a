// aimerge plan CONFIG: who would do what, from headers alone.

#include "cli/options.h"

#include "aimerge/job/job.h"

#include <fmt/core.h>

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
    declarePipeline(app, options);
    declareReadAhead(app, options);
}

void runPlan(World& world, const Options& options) {
    for (const PlannedMerge& planned :
         plan(world, options, configText(world, options), {options.plannedRanks, options.hardware}))
        fmt::print("{}\n", options.json ? planned.json.dump() : planned.table);
}

}  // namespace

const Command kPlanCommand{"plan", "Show per rank what a merge would read, write, hold and compute",
                           "aimerge plan configs/smollm2-ties-aim.yaml --ranks 4", declarePlan, runPlan};

}  // namespace aimerge
