#include "cli/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/core/standard_streams.h"
#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace aimerge {

namespace {

void requireOneConfig(const Options& options) {
    if (!options.method.method.empty() && !options.subject.empty())
        throw UsageError("'{}' is a config, and --method stands for one: give one of them{}", options.subject,
                         options.out.empty() ? "; with --method, the folder to write is --out" : "");
    if (!options.method.method.empty()) return;
    if (options.subject.empty()) throw UsageError("give a CONFIG, or --method METHOD --base BASE --models A,B in its place");
    const AimArguments& aim = options.aim;
    if (!aim.omegas.empty() || !aim.corpus.empty() || !aim.preset.empty() || !aim.statistics.empty() ||
        !aim.textKeys.empty())
        throw UsageError(
            "--omega, --corpus, --text-key, --preset and --statistics belong to --method; change the config, or use "
            "--set aim.omega=0.4");
}

std::vector<MergeConfig> checkedConfigs(const World& world, const Options& options, const std::string& text,
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

std::vector<MergeConfig> shareConfigs(World& world, const Options& options, ConfigUse use) {
    if (use == ConfigUse::Merge) requireOneConfig(options);
    const bool isMade = !options.method.method.empty();
    const auto textOf = [&] {
        return isMade ? methodConfigText(options.method, options.aim, options.overrides)
                      : readMergeConfigText(options.subject);
    };
    const std::string text = world.broadcast(world.isRoot() ? textOf() : "");
    if (isMade) return shareMadeConfig(world, options, text, "--method");
    return openInTurn(world, [&] { return checkedConfigs(world, options, text, options.subject, use); });
}

std::vector<MergeConfig> shareMadeConfig(World& world, const Options& options, const std::string& text,
                                         const std::string& command) {
    const auto show = [&](const std::string& config) {
        if (world.isRoot()) tellUser("{}\n", config);
    };
    const auto open = [&] {
        try {
            return checkedConfigs(world, options, text, command, ConfigUse::Merge);
        } catch (const UsageError&) {
            show(text);  // what is wrong is said by its lines
            throw;
        }
    };
    std::vector<MergeConfig> documents = openInTurn(world, open);
    show(documents.back().text);
    if (usesGeneralText(options.aim) && !options.aim.omegas.empty())
        spdlog::info(
            "no --corpus: activations are measured on a general text that comes with aimerge; text of the kind that the "
            "base "
            "is used for is better");
    return documents;
}

void sayUnread(const World& world, const Options& options, const UnreadKeys& unread) {
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
