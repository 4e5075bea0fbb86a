// aimerge merge CONFIG OUT, or --method METHOD ... --out DIR: the whole job, from model folders to a published checkpoint.

#include "cli/merge_command.h"

#include "aimerge/core/error.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

namespace aimerge {
namespace {

void declareMerge(CLI::App& app, Options& options) {
    declareConfig(app, options);
    app.add_option("output", options.outArgument, "Folder to write, as --out");
    declareOutput(app, options);
    app.get_option("--out")->required(false);
    declareScatter(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
    declarePipeline(app, options);
    declareReadAhead(app, options);
}

/// With the folder to write in its place, which is given behind the config, by --out, or both.
Options withOutput(Options options) {
    if (options.out.empty()) options.out = options.outArgument;
    if (options.out.empty()) throw UsageError("the folder to write is missing: aimerge merge CONFIG OUT, or --out OUT");
    if (!options.outArgument.empty() && options.outArgument != options.out)
        throw UsageError("two folders to write, '{}' and --out '{}': give one", options.outArgument, options.out);
    return options;
}

void runMerge(World& world, const Options& given) {
    const Options options = withOutput(given);
    merge(world, options, configText(world, options));
}

}  // namespace

void declareOutput(CLI::App& app, Options& options) {
    app.add_option("--out", options.out, "Folder to write")->required();
    app.add_flag("--overwrite", options.overwrite, "Replace the folder if it exists, when the new one is complete");
    declareShardSize(app, options);
    app.add_flag("--verify-after", options.verifyAfter, "Read the result back and check it before the command ends");
    declareTimesAsJson(app, options);
}

const Command kMergeCommand{"merge", "Merge models into a checkpoint, with AIM if the config asks for it",
                            "mpirun -n 4 --bind-to none aimerge merge configs/smollm2-ties-aim.yaml --out merged/",
                            declareMerge, runMerge};

}  // namespace aimerge
