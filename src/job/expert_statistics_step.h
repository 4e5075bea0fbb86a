#pragma once
// How a merge comes by the statistics of its experts (ExpertStatistic) that some methods need, and by the sensitivity of its
// base: from the cache, where an earlier run with the same model, tokens and settings left them, or by measuring each model.

#include "job/merge_job.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/job_options.h"
#include "aimerge/merge/expert_statistics.h"

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// Local. @throws UsageError when the method needs statistics and the config does not say on what the experts are to be run,
/// or the models' vocabularies differ where that makes the statistics of rows meaningless
void requireExpertCalibration(const MergeJob& job);

/// For --io scatter. @throws UsageError when the statistic is one of gradients, whose model every rank reads
void refuseSensitivity(const AimConfig& aim);

/// What measuring the experts takes, from headers and config alone: lines below the plan's table;
/// none when nothing is needed.
std::string expertStatisticsLines(const MergeJob& job, const PlanSettings& settings);

/// The line for the sensitivity of a base.
std::string sensitivityLine(const Checkpoint& base, const CalibrationConfig& calibration, const PlanSettings& settings);

struct ProvidedStatistics {
    std::vector<ExpertStatistics> experts;        // one per model of the set, of those that are no input without content
    std::optional<ExpertStatistics> sensitivity;  // of the base, for AimConfig::usesSensitivity()
    std::string keys;                             // says which they are: part of what decides the output's bytes

    const ExpertStatistics* sensitivityOrNull() const { return sensitivity ? &*sensitivity : nullptr; }
};

/// Collective. Finds or measures, expert after expert; waits for another job that measures the same. One that was measured
/// stands in the cache whatever happens to the next.
/// @throws Interrupted between micro-batches, and while waiting; what measureGrams, measureFisher and measureSensitivity
/// throw; UsageError when a machine does not see the cache
ProvidedStatistics provideExpertStatistics(World& world, const JobOptions& options, const MergeJob& job);

/// Collective. The same for the sensitivity of a base alone, whatever log there is.
ExpertStatistics provideSensitivity(World& world, const JobOptions& options, const Checkpoint& base,
                                    const CalibrationConfig& calibration);

}  // namespace aimerge
