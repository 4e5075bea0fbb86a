#include "cli/shared_config.h"

#include "aimerge/merge/job_check.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

namespace aimerge {

std::vector<MergeConfig> shareConfigs(World& world, const Options& options, ConfigUse use) {
    const std::string text = world.broadcast(world.isRoot() ? readMergeConfigText(options.subject) : "");
    return openInTurn(world, [&] {
        std::vector<MergeConfig> documents = parseMergeConfigs(text, options.subject, options.overrides, use);
        if (use == ConfigUse::Merge)
            for (const MergeConfig& document : documents)
                checkMergeConfig(findMethod(document.method, document.methodMark), document);
        return documents;
    });
}

void announceDocument(const std::vector<MergeConfig>& documents, std::size_t index, const std::string& whither) {
    if (documents.size() == 1) return;
    std::string line = fmt::format("document {} of {}", index + 1, documents.size());
    if (!documents[index].name.empty()) line += ": " + documents[index].name;
    if (!whither.empty()) line += " -> " + whither;
    spdlog::info("{}", line);
}

bool mustWaitForOthers(const MergeConfig& document) {
    if (document.uses.empty()) return false;
    spdlog::info("its models come from earlier documents ({}): it is planned and checked when they are merged",
                 fmt::join(document.uses, ", "));
    return true;
}

}  // namespace aimerge
