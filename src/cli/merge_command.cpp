// aimerge merge CONFIG --out DIR: the whole job, from model folders to a published checkpoint.

#include "cli/merge_command.h"

#include "cli/command_line.h"
#include "cli/input_files.h"
#include "cli/merge_run.h"
#include "cli/options.h"
#include "cli/shared_config.h"

#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

void declareMerge(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Merge config (YAML)")->required();
    declareOutput(app, options);
    declareScatter(app, options);
    declareGather(app, options);
    declareJobOptions(app, options);
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

void runMerge(World& world, const Options& options) {
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
    const auto documents = openInTurn(world, [&] {
        std::vector<MergeConfig> parsed = parseMergeConfigs(text, command, options.overrides, ConfigUse::Merge);
        parsed.back().allowsCrimes = options.allowsCrimes;
        sayUnread(world, options,
                  checkMergeConfig(findMethod(parsed.back().method, parsed.back().methodMark), parsed.back()));
        return parsed;
    });
    if (world.isRoot()) fmt::print(stderr, "{}\n", documents.back().text);
    if (usesGeneralText(options.aim) && !options.aim.omegas.empty())
        spdlog::info(
            "no --corpus: activations are measured on a general text that comes with aimerge; text of the kind that the "
            "base is "
            "used for is better");
    mergeDocuments(world, options, documents);
}

const Command kMergeCommand{"merge", "Merge models into a checkpoint, with AIM when the config has an aim section",
                            declareMerge, runMerge};

}  // namespace aimerge
