#include "cli/options.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"

#include <algorithm>
#include <map>

namespace aimerge {
namespace {

/// An option that is `direct` or something else.
void declareAlternative(CLI::App& app, const char* name, bool& isOther, const std::string& other, const char* description) {
    const std::map<std::string, bool> ways{{"direct", false}, {other, true}};
    app.add_option(name, isOther, description)
        ->transform(CLI::CheckedTransformer(ways).description(""))
        ->type_name("direct|" + other);
}

/// A size in bytes, such as 24GB.
template <typename Size>
CLI::Option* declareSize(CLI::App& app, const char* name, Size& size, const char* description) {
    const CLI::Validator isSize(
        [](std::string& text) {
            try {
                parseSize(text);
                return std::string();
            } catch (const UsageError& error) {
                return std::string(error.what());
            }
        },
        "");
    return app
        .add_option_function<std::string>(
            name, [&size](const std::string& text) { size = parseSize(text); }, description)
        ->check(isSize);
}

}  // namespace

void declareCommonOptions(CLI::App& app, Options& options) {
    app.add_option("--log-level", options.logLevel, "How much to print on standard error")
        ->check(CLI::IsMember({"debug", "info", "warn", "error"}))
        ->capture_default_str();
}

void declareComputeOptions(CLI::App& app, Options& options) {
    app.add_option("--device", options.device, "Where to compute: on the CPU, or on one GPU per rank")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->capture_default_str();
    app.add_option("--threads", options.threads, "Threads per rank (default: this rank's share of the CPUs)")
        ->check(CLI::Range(1, 1024));
    declareSize(app, "--memory-limit", options.memoryLimit,
                "Memory per rank, e.g. 24GB: layers that do not fit are streamed (default: no limit; on GPUs 85 % of the "
                "GPU's memory)");
    app.add_option("--log-dir", options.logDirectory,
                   "Folder for a log file per rank, with everything that --log-level debug would print (appended)");
    options.progress = ProgressMode::Auto;
    const std::map<std::string, ProgressMode> modes{{"auto", ProgressMode::Auto},
                                                    {"bar", ProgressMode::Bar},
                                                    {"plain", ProgressMode::Plain},
                                                    {"none", ProgressMode::None}};
    app.add_option("--progress", options.progress.mode, "Progress display")
        ->transform(CLI::CheckedTransformer(modes).description(""))
        ->type_name("auto|bar|plain|none")
        ->default_str("auto");
}

void declareShardSize(CLI::App& app, Options& options) {
    declareSize(app, "--max-shard-size", options.maxShardSize, "Largest shard to write")->default_str("5GB");
}

void declareReadAhead(CLI::App& app, Options& options) {
    declareSize(app, "--read-ahead", options.readAhead,
                "Memory per rank for weights that are read before they are needed; 0 reads nothing ahead (default: "
                "chosen by models, method and threads, within --memory-limit)");
}

void declareScatter(CLI::App& app, Options& options) {
    declareAlternative(
        app, "--io", options.scattersInputs, "scatter",
        "How ranks get the models' weights: `direct` from files that all see, or by `scatter`: rank 0 reads them and sends "
        "them into AIMERGE_SCRATCH_DIR of each machine (default: direct)");
}

void declareGather(CLI::App& app, Options& options) {
    declareAlternative(
        app, "--gather", options.gathersAtRoot, "root",
        "How merged tensors reach their files: `direct` from every rank, or through rank 0, the `root`, which "
        "then alone sees the output's folder (default: direct)");
}

void declareTimesAsJson(CLI::App& app, Options& options) {
    app.add_flag("--json", options.timesAsJson, "Print the times of every phase and rank as JSON when the job has ended");
}

void declareJobOptions(CLI::App& app, Options& options) {
    declareComputeOptions(app, options);
    app.add_option("--set", options.overrides,
                   "Override a config value: --set aim.omega=0.2 (repeatable); with several documents, in the result's")
        ->type_name("path.to.key=value");
    app.add_option("--stages", options.stages, "Stages of the pipeline that calibrates (default: all ranks / --replicas)")
        ->check(CLI::Range(1, 65536));
    app.add_option(
           "--replicas", options.replicas,
           "Replicas of that pipeline, each on its share of the corpus (default: as many as calibrate fastest within "
           "the memory limit; without one 1)")
        ->check(CLI::Range(1, kMostReplicas));
    app.add_flag("--strict", options.strict,
                 "Keys and parameters of the config that nothing reads are errors, not warnings");
    app.add_flag(
        "--allow-crimes", options.allowsCrimes,
        "Merge models although their config.json names another architecture or size, if names and shapes of tensors fit, "
        "and although some models lack a tensor");
    app.add_flag("--dry-run", options.dryRun, "Validate everything, show the plan, write nothing");
}

}  // namespace aimerge
