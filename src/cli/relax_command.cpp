// aimerge relax MERGED --base BASE --omega W --out DIR: AIM on a model that any program has merged. One line for a config
// with the merged model as the only expert of task_arithmetic, which it prints.

#include "cli/merge_command.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

namespace aimerge {
namespace {

std::string configText(const Options& options) {
    return fmt::format(
               "merge_method: task_arithmetic\nbase_model: {}\nmodels:\n  - model: {}\n    parameters: {{weight: 1}}\n",
               quoted(options.relaxBase), quoted(options.subject)) +
           aimSection(options.aim);
}

void declareRelax(CLI::App& app, Options& options) {
    app.add_option("merged", options.subject, "The merged model: a folder or a hub name")->required();
    app.add_option("--base", options.relaxBase, "The model that the experts were fine-tuned from")->required();
    declareAimOptions(app, options.aim)->required();
    declareOutput(app, options);
    declareScatter(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
    declareReadAhead(app, options);
}

void runRelax(World& world, const Options& options) {
    mergeConfigText(world, options, configText(options), "aimerge relax");
}

}  // namespace

const Command kRelaxCommand{"relax", "Apply AIM to a model that any program has merged",
                            "aimerge relax merged/ --base base/ --omega 0.4 --out relaxed/", declareRelax, runRelax};

}  // namespace aimerge
