#pragma once
// The statistics that the AIM of a sweep's points uses: measured once, kept for all of them.

#include "job/expert_statistics_step.h"
#include "job/merge_job.h"
#include "job/staged_models.h"
#include "job/statistics_step.h"

#include "aimerge/experiment/sweep_config.h"

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

class SweepStatistics {
public:
    SweepStatistics(World& world, const JobOptions& options, const SweepConfig& sweep)
        : world_(world), options_(options), sweep_(sweep) {}

    /// Collective. Those of the base. Their log lies in the sweep's folder, and in the cache for the points' own merges.
    /// @param staged as provideStatistics()
    void provideOfBase(const Checkpoint& base, StagedModels* staged);

    /// Collective. What the job's AIM uses: the base's activations, or those of its experts. Empty without AIM.
    std::span<const StatisticsByModule> of(const MergeJob& job, const std::string& combination);

    /// Collective. Null when the job's AIM does not go by it.
    const ExpertStatistics* sensitivityFor(const MergeJob& job);

private:
    StatisticsByModule shared(const StatisticsLog& log, const std::string& fileName) const;
    std::span<const StatisticsByModule> covering(const MergeJob& job, const std::string& key);

    World& world_;
    const JobOptions& options_;
    const SweepConfig& sweep_;
    // As Activity has them: of the base: ""; of the experts of a combination.
    std::map<std::string, std::vector<StatisticsByModule>> statistics_;
    std::set<std::string> covered_;                // keys of statistics_ whose gaps have been named
    std::optional<ExpertStatistics> sensitivity_;  // made when first needed: a sweep has one base and one calibration
};

}  // namespace aimerge
