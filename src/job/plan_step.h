#pragma once
// From a job to its plan, for the commands that make one.

#include "job/merge_job.h"

#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"
#include "aimerge/evaluation/evaluate.h"
#include "aimerge/job/job_options.h"
#include "aimerge/merge/coverage.h"

#include <filesystem>

namespace aimerge {

/// What the planner takes this rank for.
Hardware hardwareOf(const World& world, const JobOptions& options);

/// What a calibration adds to a plan; blocks = 0: none.
struct CalibrationSize {
    std::int64_t blocks = 0;
    std::int64_t blockLength = 0;
    const CalibrationConfig* config = nullptr;
};

/// As the config states it; ready token ids are looked at. @throws InputError
CalibrationSize calibrationSize(const CalibrationConfig& config, const Checkpoint& base);

PlanSettings planSettings(const World& world, const JobOptions& options, const CalibrationSize& calibration);
PlanSettings planSettings(const World& world, const JobOptions& options, const CalibrationSize& calibration,
                          const MergeJob& job);

/// Memory in which a rank reads ahead of the merge: --read-ahead, else as much as keeps storage and threads at work, within
/// the memory limit.
/// @param passes over the same models, of which the job is the first one's
std::uint64_t readAheadBytes(const World& world, const JobOptions& options, const MergeJob& job, std::size_t passes = 1);

/// What the job's AIM relaxes with these statistics of its base. @throws InputError when a stack has none
Coverage requiredCoverage(const MergeJob& job, const StatisticsByModule& statistics);

/// What the job's AIM would relax, by the log that the config names, else by what a calibration measures. Warns of what has
/// no statistic. @throws InputError as the merge would: a log that is not this model's, a stack without any statistic
std::optional<Coverage> plannedCoverage(const MergeJob& job);

/// A line for the plan; empty without AIM.
std::string coverageLine(const std::optional<Coverage>& coverage);

/// Collective. Which layers of the model each rank runs when it is scored.
Plan planEvaluation(World& world, const JobOptions& options, const Evaluation& evaluation, const Checkpoint& model);

/// Bytes free for the user on the disk that holds `path` or its nearest existing parent.
std::uint64_t freeDiskBytes(const std::filesystem::path& path);

/// @throws UsageError when the output does not fit the disk
void requireDiskSpace(const Plan& plan, const std::filesystem::path& target);

}  // namespace aimerge
