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
    app.add_option("--log-dir", options.logDirectory, "Append to a debug-level log file per rank in this folder");
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
                "Read-ahead memory per rank; 0 disables it (default: chosen by models, method and threads, within "
                "--memory-limit)");
}

void declareScatter(CLI::App& app, Options& options) {
    declareAlternative(
        app, "--io", options.scattersInputs, "scatter",
        "direct: every rank reads the model files. scatter: rank 0 reads them and sends each rank its share, kept in "
        "AIMERGE_SCRATCH_DIR (default: direct)");
}

void declareGather(CLI::App& app, Options& options) {
    declareAlternative(
        app, "--gather", options.gathersAtRoot, "root",
        "direct: every rank writes to the output folder. root: ranks send merged tensors to rank 0, which writes them "
        "(default: direct)");
}

void declareTimesAsJson(CLI::App& app, Options& options) {
    app.add_flag("--json", options.timesAsJson, "Print the times of every phase and rank as JSON when the job has ended");
}

void declarePipeline(CLI::App& app, Options& options) {
    app.add_option("--stages", options.stages, "Pipeline stages of a calibration (default: ranks / replicas)")
        ->check(CLI::Range(1, 65536));
    app.add_option("--replicas", options.replicas,
                   "Pipeline replicas, each on a share of the corpus (default: the fastest number that fits the memory "
                   "limit; 1 without a limit)")
        ->check(CLI::Range(1, kMostReplicas));
}

void declareJobOptions(CLI::App& app, Options& options) {
    declareComputeOptions(app, options);
    app.add_option("--set", options.overrides,
                   "Override a config value: --set aim.omega=0.2 (repeatable); with several documents, it changes the "
                   "one that gives the output")
        ->type_name("path.to.key=value");
    app.add_flag("--strict", options.strict, "Treat unused config keys and parameters as errors");
    app.add_flag("--allow-crimes", options.allowsCrimes,
                 "Merge models whose config.json names another architecture or size, if tensor names and shapes match; "
                 "models may lack tensors");
    app.add_flag("--dry-run", options.dryRun, "Validate everything, show the plan, write nothing");
}

}  // namespace aimerge
