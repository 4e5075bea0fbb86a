#include "job/input_files.h"
#include "job/merge_run.h"
#include "job/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/job.h"

#include <algorithm>
#include <filesystem>
#include <iterator>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// Rank 0: the place of the last document's result, locked for as long as any document is merged.
OutputFolder acquireOutput(const JobOptions& options, const std::vector<MergeConfig>& documents) {
    const ExistingOutput existing = options.overwrite ? ExistingOutput::Replace : ExistingOutput::Refuse;
    OutputRequest request{options.out, {}, existing, commandLine()};
    for (const MergeConfig& document : documents)
        std::ranges::move(inputPaths(document), std::back_inserter(request.inputs));
    OutputFolder output = OutputFolder::acquire(request);
    if (documents.size() > 1 && !options.dryRun) output.prepareIntermediates();
    return output;
}

/// Collective. The documents before the last, each into a folder of its own.
void mergeEarlierDocuments(World& world, const JobOptions& options, const std::vector<MergeConfig>& documents,
                           const fs::path& folder) {
    for (std::size_t i = 0; i + 1 < documents.size(); ++i) {
        JobOptions ofDocument = options;
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

}  // namespace

MergeResult merge(World& world, const JobOptions& options, const ConfigText& config) {
    const std::vector<MergeConfig> documents = shareConfigs(world, options, config, ConfigUse::Merge);
    RootState root;
    if (world.isRoot()) root.output.emplace(acquireOutput(options, documents));
    const fs::path folder = world.broadcast(world.isRoot() ? root.output->intermediateFolder().string() : "");
    try {
        mergeEarlierDocuments(world, options, documents, folder);
        announceDocument(documents, documents.size() - 1, options.out);
        if (options.dryRun && mustWaitForOthers(documents.back())) return {};
        return mergeDocument(world, options, withDocumentsIn(folder, documents.back()), root);
    } catch (...) {
        if (root.output) root.output->dropUnusedIntermediates();
        throw;
    }
}

}  // namespace aimerge
