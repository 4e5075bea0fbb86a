#include "job/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace aimerge {
namespace {

std::vector<MergeConfig> checkedConfigs(const World& world, const JobOptions& options, const std::string& text,
                                        const std::string& name, ConfigUse use) {
    std::vector<MergeConfig> documents = parseMergeConfigs(text, name, options.overrides, use);
    UnreadKeys unread;
    for (MergeConfig& document : documents) {
        document.allowsCrimes = options.allowsCrimes;
        std::ranges::move(use == ConfigUse::Merge
                              ? checkMergeConfig(findMethod(document.method, document.methodMark), document)
                              : document.unread,
                          std::back_inserter(unread));
    }
    sayUnread(world, options, unread);
    return documents;
}

}  // namespace

std::vector<MergeConfig> shareConfigs(World& world, const JobOptions& options, const ConfigText& config, ConfigUse use) {
    const std::string text = world.broadcast(world.isRoot() ? config.text : "");
    const auto show = [&](const std::string& shown) {
        if (world.isRoot() && config.isMade) showText(options, shown + "\n");
    };
    const auto open = [&] {
        try {
            return checkedConfigs(world, options, text, config.name, use);
        } catch (const UsageError&) {
            show(text);  // what is wrong is said by its lines
            throw;
        }
    };
    std::vector<MergeConfig> documents = openInTurn(world, open);
    show(documents.back().text);
    if (!config.remark.empty()) spdlog::info("{}", config.remark);
    return documents;
}

void sayUnread(const World& world, const JobOptions& options, const UnreadKeys& unread) {
    if (options.strict && !unread.empty())
        throw UsageError("{}: {} (an error with --strict)", unread.front().mark.text(), unread.front().reason);
    if (!world.isRoot()) return;
    std::vector<std::pair<const UnreadKey*, std::size_t>> said;  // and how often more
    for (const UnreadKey& key : unread) {
        const auto known = std::ranges::find_if(said, [&](const auto& entry) { return entry.first->reason == key.reason; });
        if (known == said.end())
            said.emplace_back(&key, 0);
        else
            ++known->second;
    }
    for (const auto& [key, more] : said)
        spdlog::warn("{}: {}{}", key->mark.text(), key->reason,
                     more == 0 ? "" : fmt::format(" (and in {} more place{})", more, more == 1 ? "" : "s"));
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
