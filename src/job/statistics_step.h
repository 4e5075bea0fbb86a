#pragma once
// How a command comes by the activation statistics of its base model: the log that the config names, the cache, or a
// calibration.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/corpus/token_blocks.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job_options.h"
#include "aimerge/statistics/statistics.h"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

class StagedModels;

/// Hex digest of the checkpoint's contents. Read once: later runs take it from the cache as long as the files' names, sizes
/// and modification times are the same.
std::string contentDigestOf(const Checkpoint& base, int threads);

/// Collective. The root's blocks on every rank.
TokenBlocks broadcastBlocks(World& world, const TokenBlocks& mine);

/// Reads the log that `aim.statistics` names, and compares with the base what needs no weights.
/// @throws InputError as readGivenStatistics
StatisticsLog lookAtGivenStatistics(const std::filesystem::path& path, const Checkpoint& base);

/// Reads the log that `aim.statistics` names. Warns when it says nothing about config.json.
/// @throws InputError when it was taken on another model, or with another forward pass by its config.json
StatisticsLog readGivenStatistics(const std::filesystem::path& path, const Checkpoint& base, int threads);

/// What a calibration would run on, and the log of an earlier one on the same base, tokens and
/// settings, where the cache has it.
struct CalibrationInput {
    TokenBlocks blocks;
    StatisticsOrigin origin;          // all fields but those of the run itself
    std::filesystem::path cachedLog;  // where the log is, or will be, cached
    bool isCached = false;
};

/// Reads `input.cachedLog`. @pre it is there. @throws InputError when it was not taken on this model's forward pass
StatisticsLog readCachedStatistics(const CalibrationInput& input, const Checkpoint& base);

/// Local: rank 0 calls it. Tokenises the corpus. @param device on which the ranks compute
CalibrationInput prepareCalibration(const CalibrationConfig& config, const Checkpoint& base, int threads,
                                    const Device& device);

/// Collective. Runs the calibration and caches its log. `input` is used on rank 0, and the log is complete there alone.
/// @param merged of a sequential calibration
StatisticsLog runCalibration(World& world, const JobOptions& options, const CalibrationConfig& config,
                             const Checkpoint& base, const Plan& plan, CalibrationInput input,
                             MergedLayers* merged = nullptr);

/// Where the log of a calibration is cached that is part of a merge. @param job says which
std::filesystem::path sequentialLog(const std::filesystem::path& cachedLog, const std::string& job);

/// Collective. Of a model from the cache, or measured; complete on rank 0 alone.
/// @param staged where the other ranks get the model's weights from; null: they see its files
StatisticsLog provideStatistics(World& world, const JobOptions& options, const CalibrationConfig& config,
                                const Checkpoint& model, StagedModels* staged = nullptr);

/// Collective. What rank 0 reads of a log, on every rank.
StatisticsByModule broadcastStatistics(World& world, const std::filesystem::path& log);

/// What a log has, in the form that a merge uses: Activity::statistics.
std::vector<StatisticsByModule> activityStatistics(const AimConfig& aim, StatisticsByModule logged);

/// Collective. The statistics of the experts, combined as aim.source says; complete on rank 0 alone. The log's origin names
/// the experts, and no model's contents or config.json: it is not for `aim.statistics`.
/// @pre aim.source is not Base
StatisticsLog provideExpertsStatistics(World& world, const JobOptions& options, const AimConfig& aim,
                                       std::span<const Checkpoint* const> experts);

}  // namespace aimerge
