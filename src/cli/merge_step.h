#pragma once
// The merge itself: this rank's share of the tensors, read, combined, relaxed for every omega and written at its place.

#include "cli/merge_job.h"

#include "aimerge/checkpoint/shard_writer.h"
#include "aimerge/core/progress.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/distributed/world.h"
#include "aimerge/merge/expert_statistics.h"
#include "aimerge/statistics/statistics.h"

#include <memory>
#include <span>
#include <vector>

namespace aimerge {

/// One writer per point of the job.
using PointWriters = std::vector<std::unique_ptr<ShardWriter>>;

/// Local. Takes over what an earlier run has finished of this rank's tensors, as far as the bytes on disk bear it out.
/// @return names of the tensors that are still to be merged, in order
std::vector<std::string> adoptFinished(const MergeJob& job, const std::vector<std::string>& mine,
                                       const std::vector<FinishedTensor>& claims, PointWriters& writers,
                                       ThreadPool& threads);

/// Local. Merges the named tensors. @throws Interrupted and PeerFailed between two batches of tensors
void mergeShare(World& world, const MergeJob& job, const std::vector<std::string>& names,
                const StatisticsByModule& statistics, std::span<const ExpertStatistics> experts, PointWriters& writers,
                ThreadPool& threads, ProgressMode progress);

}  // namespace aimerge
