#pragma once
// The config of a job, the same on every rank.

#include "aimerge/config/merge_config.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

#include <string>
#include <utility>
#include <vector>

namespace aimerge {

/// Collective. Runs `open` on rank 0 and, when that succeeded, on the others: what is wrong is found and said once.
template <typename Open>
auto openInTurn(World& world, Open&& open) {
    if (world.isRoot()) {
        auto opened = open();
        world.barrier();
        return opened;
    }
    world.barrier();
    return open();
}

/// Collective. All parse rank 0's text, apply the overrides and check each document that is merged against its method, before
/// the first one is. A config that was made is shown. What nothing reads is said.
std::vector<MergeConfig> shareConfigs(World& world, const JobOptions& options, const ConfigText& config, ConfigUse use);

/// Rank 0 warns once of what nothing reads, with a count where it is many times the same.
/// @throws UsageError with --strict, when there is anything
void sayUnread(const World& world, const JobOptions& options, const UnreadKeys& unread);

/// Says which document's turn it is, when there are several: "document 1 of 3: math -> out.intermediate/math".
/// @param whither empty when nothing is written
void announceDocument(const std::vector<MergeConfig>& documents, std::size_t index, const std::string& whither);

/// True, and says so, when a document's models are made from earlier documents, so that there is nothing to look at yet.
bool mustWaitForOthers(const MergeConfig& document);

}  // namespace aimerge
