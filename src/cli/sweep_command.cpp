// aimerge sweep CONFIG: methods x combinations x grid x omegas, merged and scored.

#include "cli/options.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/failure.h"
#include "aimerge/job/job.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <vector>

namespace aimerge {
namespace {

void declareSweep(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Sweep config (YAML)")->required();
    app.add_option(
        "--only", options.only,
        "Only these merged points: method=ties,omega=0.4,combination=code+math, or by a key of the grid, density=0.2 "
        "(repeatable)");
    declareShardSize(app, options);
    declareScatter(app, options);
    declareGather(app, options);
    app.add_flag("--list-combinations", options.listCombinations,
                 "Print the combinations of experts, a line each, and do nothing else");
    declareTimesAsJson(app, options);
    declareJobOptions(app, options);
    declarePipeline(app, options);
    declareReadAhead(app, options);
}

void listCombinations(const SweepConfig& sweep) {
    std::vector<std::string> known;
    for (const SweepPoint& point : sweep.points) {
        if (point.kind != PointKind::Merged || std::ranges::find(known, point.combination) != known.end()) continue;
        known.push_back(point.combination);
        fmt::print("{}\n", point.combination);
    }
}

void runSweep(World& world, const Options& options) {
    const SweepConfig config = openSweep(world, options, fileText(world, options));
    if (options.listCombinations) {
        if (world.isRoot()) listCombinations(config);
        return;
    }
    const SweepOutcome outcome = sweep(world, options, config, options.only);
    fmt::print("{}", outcome.table);
    requireNoFailedPoints(config, outcome, options.dryRun);
}

}  // namespace

const Command kSweepCommand{"sweep", "Merge and score methods x combinations of experts x omegas",
                            "aimerge sweep configs/smollm2-table1.yaml", declareSweep, runSweep};

}  // namespace aimerge
