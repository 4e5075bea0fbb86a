// aimerge featcal MERGED --expert NAME=MODEL:TEXT ... --out DIR: fits a model that any program has merged to what its
// experts compute (calibration/featcal.h). One line for a config with merge_method passthrough, which it prints.

#include "cli/merge_command.h"

#include "aimerge/core/error.h"

#include <fmt/core.h>

namespace aimerge {
namespace {

struct NamedExpert {
    std::string model, text;
};

/// "code=models/code:code.jsonl"; the name may be left out.
NamedExpert splitExpert(const std::string& argument) {
    const std::size_t equals = argument.find('='), colon = argument.rfind(':');
    const std::size_t begin = equals == std::string::npos ? 0 : equals + 1;
    if (colon == std::string::npos || colon <= begin || colon + 1 == argument.size())
        throw UsageError(
            "--expert {}: expected NAME=MODEL:TEXT, such as code=models/code:code.jsonl, where TEXT is a corpus "
            "(docs/file-formats.md) of examples of what the expert does",
            argument);
    return {argument.substr(begin, colon - begin), argument.substr(colon + 1)};
}

std::string calibrationText(const FeatcalArguments& arguments, const std::string& corpus) {
    const std::string keys = arguments.textKeys.empty() ? "" : fmt::format("text_key: {}, ", quotedList(arguments.textKeys));
    return fmt::format("{{corpus: {}, {}sequences: {}, sequence_length: {}, dtype: {}}}", quoted(corpus), keys,
                       arguments.sequences, arguments.sequenceLength, arguments.dtype);
}

std::string configText(const Options& options) {
    const FeatcalArguments& arguments = options.featcal;
    if (arguments.base.empty() && (!arguments.baseText.empty() || arguments.rho != 1))
        throw UsageError("--rho and --base-text are about a base: name it by --base");
    std::string text = fmt::format("merge_method: passthrough\nmodels:\n  - model: {}\n", quoted(options.subject));
    text +=
        fmt::format("featcal:\n  lambda: {}\n  rho: {}\n  alpha: {}\n", arguments.lambda, arguments.rho, arguments.alpha);
    if (!arguments.base.empty()) {
        text += fmt::format("  base:\n    model: {}\n", quoted(arguments.base));
        if (!arguments.baseText.empty())
            text += fmt::format("    calibration: {}\n", calibrationText(arguments, arguments.baseText));
    }
    text += "  experts:\n";
    for (const std::string& argument : arguments.experts) {
        const NamedExpert expert = splitExpert(argument);
        text += fmt::format("    - model: {}\n      calibration: {}\n", quoted(expert.model),
                            calibrationText(arguments, expert.text));
    }
    return text;
}

void declareFeatcal(CLI::App& app, Options& options) {
    FeatcalArguments& arguments = options.featcal;
    app.add_option("merged", options.subject, "The merged model: a folder or a hub name")->required();
    app.add_option("--expert", arguments.experts,
                   "NAME=MODEL:TEXT: an expert and examples of what it does: a file, a folder or a pattern (repeatable)")
        ->required();
    app.add_option("--base", arguments.base,
                   "The model that the experts were fine-tuned from; --rho and --base-text need it");
    app.add_option("--base-text", arguments.baseText, "A text for which the base counts as one more expert");
    app.add_option("--lambda", arguments.lambda, "How strongly weights stay near the merge: above 0");
    app.add_option("--rho", arguments.rho,
                   "1: towards the merged weights; 0: towards the base's; above 1: beyond the merged");
    app.add_option("--alpha", arguments.alpha,
                   "Share of the expert's own input, the rest being the merged model's, when its output is computed");
    app.add_option("--text-key", arguments.textKeys, "Columns whose texts are joined")->delimiter(',');
    app.add_option("--sequences", arguments.sequences, "Sequences of each text, at most")->check(CLI::PositiveNumber);
    app.add_option("--sequence-length", arguments.sequenceLength, "Tokens of a sequence")->check(CLI::PositiveNumber);
    app.add_option("--dtype", arguments.dtype, "Data type in which the models run: float32 or bfloat16");
    declareOutput(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
}

void runFeatcalCommand(World& world, const Options& options) {
    mergeConfigText(world, options, configText(options), "aimerge featcal");
}

}  // namespace

const Command kFeatcalCommand{"featcal", "Fit a merged model to what its experts compute on examples",
                              "aimerge featcal merged/ --expert math=math/:math.jsonl --expert code=code/:code.jsonl "
                              "--text-key prompt,target --out fitted/",
                              declareFeatcal, runFeatcalCommand};

}  // namespace aimerge
