#include "job/sweep_statistics.h"

#include "job/plan_step.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>

#include <filesystem>

namespace aimerge {

void SweepStatistics::provideOfBase(const Checkpoint& base, StagedModels* staged) {
    const AimConfig& aim = *sweep_.aim;
    StatisticsLog log;
    if (aim.statisticsPath.empty()) requireRunnable(base.modelConfig(), base.name());
    if (aim.statisticsPath.empty())
        log = provideStatistics(world_, options_, aim.calibration, base, staged);
    else if (world_.isRoot())
        log = readGivenStatistics(aim.statisticsPath, base, threadsPerRank(world_, options_));
    statistics_[""] = {shared(log, kStatisticsLogName)};
}

/// Collective. Rank 0's log, which it writes into the sweep's folder, on every rank.
StatisticsByModule SweepStatistics::shared(const StatisticsLog& log, const std::string& fileName) const {
    const std::filesystem::path path = std::filesystem::path(sweep_.directory) / fileName;
    if (world_.isRoot()) writeStatisticsLog(path, log);
    return broadcastStatistics(world_, path);
}

std::span<const StatisticsByModule> SweepStatistics::of(const MergeJob& job, const std::string& combination) {
    if (!job.config.aim) return {};
    if (!job.config.aim->usesExperts()) return covering(job, "");
    const std::string key = fmt::format("{}-{}", sourceName(job.config.aim->source), combination);
    if (!statistics_.contains(key)) {
        const StatisticsLog log = provideExpertsStatistics(world_, options_, *job.config.aim, job.expertCheckpoints());
        statistics_[key] = activityStatistics(*job.config.aim, shared(log, key + "-" + kStatisticsLogName));
    }
    return covering(job, key);
}

/// What the job needs is there; what is missing is said once.
std::span<const StatisticsByModule> SweepStatistics::covering(const MergeJob& job, const std::string& key) {
    const std::vector<StatisticsByModule>& statistics = statistics_[key];
    const Coverage coverage = requiredCoverage(job, statistics.front());
    if (world_.isRoot() && covered_.insert(key).second) coverage.warn();
    return statistics;
}

const ExpertStatistics* SweepStatistics::sensitivityFor(const MergeJob& job) {
    if (!job.config.aim || !job.config.aim->usesSensitivity()) return nullptr;
    if (!sensitivity_) sensitivity_ = provideExpertStatistics(world_, options_, job).sensitivity;
    return &*sensitivity_;
}

}  // namespace aimerge
