// aimerge merge CONFIG OUT, or --method METHOD ... --out DIR: the whole job, from model folders to a published checkpoint.

#include "cli/merge_command.h"

#include "cli/command_line.h"
#include "cli/input_files.h"
#include "cli/merge_run.h"
#include "cli/options.h"
#include "cli/shared_config.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

void declareMerge(CLI::App& app, Options& options) {
    declareConfig(app, options);
    app.add_option("output", options.outArgument, "Folder to write, as --out");
    declareOutput(app, options);
    app.get_option("--out")->required(false);
    declareScatter(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
    declareReadAhead(app, options);
}

/// Rank 0: the place of the last document's result, locked for as long as any document is merged.
OutputFolder acquireOutput(const Options& options, const std::vector<MergeConfig>& documents) {
    const ExistingOutput existing = options.overwrite ? ExistingOutput::Replace : ExistingOutput::Refuse;
    OutputRequest request{options.out, {}, existing, commandLine()};
    for (const MergeConfig& document : documents)
        std::ranges::move(inputPaths(document), std::back_inserter(request.inputs));
    OutputFolder output = OutputFolder::acquire(request);
    if (documents.size() > 1 && !options.dryRun) output.prepareIntermediates();
    return output;
}

/// Collective. The documents before the last, each into a folder of its own.
void mergeEarlierDocuments(World& world, const Options& options, const std::vector<MergeConfig>& documents,
                           const fs::path& folder) {
    for (std::size_t i = 0; i + 1 < documents.size(); ++i) {
        Options ofDocument = options;
        ofDocument.out = (folder / documents[i].name).string();
        ofDocument.verifyAfter = false;
        announceDocument(documents, i, ofDocument.out);
        if (options.dryRun && mustWaitForOthers(documents[i])) continue;
        RootState root;
        root.takesOver = true;
        if (world.isRoot() && !options.dryRun)
            root.output.emplace(OutputFolder::acquire({ofDocument.out, {}, ExistingOutput::Replace, commandLine()}));
        mergeDocument(world, ofDocument, withDocumentsIn(folder, documents[i]), root);
    }
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
    mergeDocuments(world, options, shareConfigs(world, options, ConfigUse::Merge));
}

}  // namespace

void declareOutput(CLI::App& app, Options& options) {
    app.add_option("--out", options.out, "Folder to write")->required();
    app.add_flag("--overwrite", options.overwrite, "Replace the folder if it exists, when the new one is complete");
    declareShardSize(app, options);
    app.add_flag("--verify-after", options.verifyAfter, "Read the result back and check it before the command ends");
    declareTimesAsJson(app, options);
}

void mergeDocuments(World& world, const Options& options, const std::vector<MergeConfig>& documents) {
    RootState root;
    if (world.isRoot()) root.output.emplace(acquireOutput(options, documents));
    const fs::path folder = world.broadcast(world.isRoot() ? root.output->intermediateFolder().string() : "");
    try {
        mergeEarlierDocuments(world, options, documents, folder);
        announceDocument(documents, documents.size() - 1, options.out);
        if (options.dryRun && mustWaitForOthers(documents.back())) return;
        mergeDocument(world, options, withDocumentsIn(folder, documents.back()), root);
    } catch (...) {
        if (root.output) root.output->dropUnusedIntermediates();
        throw;
    }
}

void mergeConfigText(World& world, const Options& options, const std::string& text, const std::string& command) {
    mergeDocuments(world, options, shareMadeConfig(world, options, text, command));
}

const Command kMergeCommand{"merge", "Merge models into a checkpoint, with AIM when the config has an aim section",
                            "mpirun -n 4 --bind-to none aimerge merge configs/smollm2-ties-aim.yaml --out merged/",
                            declareMerge, runMerge};

}  // namespace aimerge
