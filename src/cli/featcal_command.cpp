// aimerge featcal MERGED --expert NAME=MODEL:TEXT ... --out DIR: fits a model that any program has merged to what its
// experts compute (calibration/featcal.h). One line for a config with merge_method passthrough, which it prints.

#include "cli/merge_command.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

namespace aimerge {
namespace {

void declareFeatcal(CLI::App& app, Options& options) {
    FeatcalArguments& arguments = options.featcal;
    app.add_option("merged", options.subject, "The merged model: a folder or a hub name")->required();
    app.add_option("--expert", arguments.experts,
                   "NAME=MODEL:TEXT: an expert and examples of what it does: a file, a folder or a pattern (repeatable)")
        ->required();
    app.add_option("--base", arguments.base,
                   "The model that the experts were fine-tuned from; --rho and --base-text need it");
    app.add_option("--base-text", arguments.baseText, "Text on which the base's outputs are kept, too");
    app.add_option("--lambda", arguments.lambda, "Regularisation towards the merged weights (see --rho), above 0");
    app.add_option("--rho", arguments.rho,
                   "1: towards the merged weights; 0: towards the base's; above 1: beyond the merged");
    app.add_option("--alpha", arguments.alpha,
                   "Target outputs are computed on: 1 the expert's own inputs, 0 the merged model's, between them a mix");
    app.add_option("--text-key", arguments.textKeys, "Columns to join into one text")->delimiter(',');
    app.add_option("--sequences", arguments.sequences, "Sequences of each text, at most")->check(CLI::PositiveNumber);
    app.add_option("--sequence-length", arguments.sequenceLength, "Tokens of a sequence")->check(CLI::PositiveNumber);
    app.add_option("--dtype", arguments.dtype, "Data type in which the models run: float32 or bfloat16");
    declareOutput(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
}

void runFeatcalCommand(World& world, const Options& options) {
    merge(world, options,
          {world.isRoot() ? featcalConfigText(options.subject, options.featcal) : "", "aimerge featcal", true, ""});
}

}  // namespace

const Command kFeatcalCommand{"featcal", "Fit a merged model to what its experts compute on examples",
                              "aimerge featcal merged/ --expert math=math/:math.jsonl --expert code=code/:code.jsonl \\\n"
                              "    --text-key prompt,target --out fitted/",
                              declareFeatcal, runFeatcalCommand};

}  // namespace aimerge
