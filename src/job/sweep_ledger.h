#pragma once
// What is done of a sweep and what is still to do: its locks, its journal, its table, and what is said of its progress.

#include "job/merge_job.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/distributed/world.h"
#include "aimerge/experiment/point_filter.h"
#include "aimerge/experiment/sweep_record.h"
#include "aimerge/job/job.h"
#include "aimerge/output/job_lock.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// Checks the config of a merged point, then openMergeJob(). @throws UsageError, InputError
MergeJob openPoint(const MergeConfig& config, const JobOptions& options);

class SweepLedger {
public:
    /// Collective. Takes the locks of the combinations that `only` lets through; a dry run takes none and
    /// writes nothing. @throws UsageError naming the job that has one of them
    SweepLedger(World& world, const JobOptions& options, const SweepConfig& sweep, const std::vector<std::string>& only);

    /// Whether this job has to merge or score point i; equal on every rank.
    bool isPending(std::size_t i) const { return pending_[i]; }
    bool hasPending() const { return total_ > 0; }

    // Called by every rank; rank 0 does what they say.
    /// Says that point i is about to be made.
    void announce(std::size_t i) const;
    /// Journals how point i ended. @param result without key and seconds
    void record(std::size_t i, PointResult result, double seconds);
    /// points.csv, with what other jobs have found out meanwhile.
    void writeTable();

    /// What is to do, and what of it cannot be made.
    SweepOutcome describe() const;

    /// The scores, and how many points of this job have failed.
    SweepOutcome finish();

private:
    bool scores() const { return !sweep_.evaluation.suites.empty(); }
    void acquireLocks(const PointFilter& filter);
    double guessedSeconds(const Checkpoint& base, std::uint64_t bytes) const;
    std::string keyOf(const SweepPoint& point, const std::string& evaluation);
    void checkPlanned(const SweepPoint& point, const MergeJob& job);
    std::size_t reportRefusals() const;

    const World& world_;
    const JobOptions& options_;
    const SweepConfig& sweep_;
    std::filesystem::path folder_;
    std::vector<bool> pending_;
    std::size_t total_ = 0, done_ = 0;
    double spent_ = 0;

    // Rank 0 alone.
    std::vector<JobLock> locks_;  // of the combinations that this job merges, and of the base and the experts
    bool scoresModels_ = true;    // no other job scores the base and the experts
    std::optional<SweepJournal> journal_;
    std::vector<std::string> keys_;                // per point
    std::vector<PointResult> results_;             // per point
    std::map<std::string, std::string> refusals_;  // points that cannot be made, and why; looked for in a dry run
    std::map<std::string, std::string> planned_;   // by way of relaxing, why its AIM cannot be; empty where it can
};

}  // namespace aimerge
