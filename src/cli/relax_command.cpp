// aimerge relax MERGED --base BASE --omega W --out DIR: AIM on a model that any program has merged. One line for a config
// with the merged model as the only expert of task_arithmetic, which it prints.

#include "cli/merge_command.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

namespace aimerge {
namespace {

void declareRelax(CLI::App& app, Options& options) {
    app.add_option("merged", options.subject, "The merged model: a folder or a hub name")->required();
    app.add_option("--base", options.relaxBase, "The model that the experts were fine-tuned from")->required();
    declareAimOptions(app, options.aim)->required();
    declareOutput(app, options);
    declareScatter(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
    declarePipeline(app, options);
    declareReadAhead(app, options);
}

void runRelax(World& world, const Options& options) {
    merge(world, options,
          {world.isRoot() ? relaxConfigText(options.subject, options.relaxBase, options.aim) : "", "aimerge relax", true,
           remarkOn(options.aim)});
}

}  // namespace

const Command kRelaxCommand{"relax", "Apply AIM to a model that any program has merged",
                            "aimerge relax merged/ --base base/ --omega 0.4 --out relaxed/", declareRelax, runRelax};

}  // namespace aimerge
