#include "job/expert_statistics_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/staged_models.h"
#include "job/statistics_step.h"

#include "aimerge/checkpoint/forward_identity.h"
#include "aimerge/core/error.h"
#include "aimerge/job/job.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <optional>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// In what a log differs from what this calibration would give, in a word; empty when in nothing.
std::string differenceOf(const StatisticsOrigin& there, const StatisticsOrigin& wanted) {
    if (there.baseDigest != wanted.baseDigest) return "base";
    if (there.baseConfig.empty()) return "config.json, which the log does not hold";
    const auto difference =
        forwardDifference(nlohmann::ordered_json::parse(there.baseConfig), nlohmann::ordered_json::parse(wanted.baseConfig));
    if (difference) return fmt::format("config.json, {} {}", difference->key, difference->first);
    if (there.tokensDigest != wanted.tokensDigest) return "tokens";
    if (there.dtype != wanted.dtype) return "dtype " + there.dtype;
    if (there.microBatch != wanted.microBatch) return fmt::format("micro_batch {}", there.microBatch);
    if (there.device != wanted.device) return "device " + there.device;
    if (there.revision != wanted.revision) return fmt::format("revision {}", there.revision);
    return {};
}

/// @throws UsageError when --out is something other than this log and may not be replaced
CalibrationSource sourceOf(const CalibrationInput& input, bool wantsSensitivity, const JobOptions& options) {
    if (fs::exists(options.out)) {
        const StatisticsOrigin origin = readStatisticsOrigin(options.out);
        const std::string difference = differenceOf(origin, input.origin);
        const bool same = difference.empty();
        const bool isWhole = !wantsSensitivity || !readSensitivityPlaces(options.out).empty();
        if (same && isWhole) return CalibrationSource::Present;
        if (!same && !options.overwrite) {
            throw UsageError(
                "{}: exists and holds statistics of something else (base {}, corpus {}; it differs in: {}); give "
                "--overwrite "
                "or another --out",
                options.out, origin.baseModel, origin.corpus, difference);
        }
    }
    return input.isCached ? CalibrationSource::Cached : CalibrationSource::Measured;
}

/// @throws UsageError when the base is the result of another document, which calibrate does not make
void refuseMadeBase(const MergeConfig& config) {
    if (std::ranges::none_of(config.uses, [&](const auto& name) { return refersToDocument(config.baseModel, name); }))
        return;
    throw UsageError("{}: base_model {} is made by another document; merge that one alone and name its folder here",
                     config.baseModelMark.text(), config.baseModel);
}

/// Collective. Writes --out on rank 0. @param log on rank 0
void writeLog(World& world, const JobOptions& options, const StatisticsLog& log,
              const std::optional<ExpertStatistics>& sensitivity) {
    if (!world.isRoot()) return;
    if (const fs::path parent = fs::path(options.out).parent_path(); !parent.empty()) fs::create_directories(parent);
    std::vector<SensitivityValues> values;
    if (sensitivity) values = sensitivity->values();
    writeStatisticsLog(options.out, log, values);
    spdlog::info("{}: statistics of {} modules over {} tokens{}", options.out, log.modules.size(), log.origin.tokens,
                 sensitivity ? fmt::format(", sensitivity of {} parameters", values.size()) : "");
}

}  // namespace

std::optional<CalibrationSource> calibrate(World& world, const JobOptions& options, const ConfigText& text) {
    const MergeConfig config = std::move(shareConfigs(world, options, text, ConfigUse::Calibrate).back());
    refuseMadeBase(config);
    const CalibrationConfig& calibration = config.aim->calibration;
    const bool wantsSensitivity = config.aim->usesSensitivity();
    if (options.scattersInputs) refuseSensitivity(*config.aim);
    std::optional<StagedModels> staged;
    if (options.scattersInputs) staged.emplace(world, std::set{config.baseModel});
    const Checkpoint base =
        openInTurn(world, [&] { return Checkpoint::open(staged ? staged->nameHere(config.baseModel) : config.baseModel); });
    if (staged)
        staged->dropNames();
    else
        requireSameInputs(world, {&base});

    CalibrationInput input;
    CalibrationSource source = CalibrationSource::Measured;
    std::string planText;
    if (world.isRoot()) {
        CalibrationSize size;
        if (options.dryRun) {
            size = calibrationSize(calibration, base);
        } else {
            input = prepareCalibration(calibration, base, threadsPerRank(world, options), options.computesOn);
            source = sourceOf(input, wantsSensitivity, options);
            size = {input.blocks.blocks, input.blocks.length, &calibration};
        }
        const PlanSettings settings = planSettings(world, options, size);
        const Plan plan = makePlan(base, {}, settings);
        showText(options, planTable(plan, settings, freeDiskBytes(options.out)) +
                              (wantsSensitivity ? sensitivityLine(base, calibration, settings) : "") + "\n");
        planText = source == CalibrationSource::Measured && !options.dryRun ? plan.toJson() : "";
    }
    planText = world.broadcast(std::move(planText));
    if (options.dryRun) return std::nullopt;

    if (world.any(source == CalibrationSource::Present)) {
        if (world.isRoot()) spdlog::info("{}: reused, the base and the tokens are the same", options.out);
        return CalibrationSource::Present;
    }
    StatisticsLog log;
    if (planText.empty()) {
        if (world.isRoot()) {
            log = readCachedStatistics(input, base);
            spdlog::info("{}: reused, the base and the tokens are the same", input.cachedLog.string());
        }
    } else {
        const Plan plan = Plan::fromJson(planText);
        if (staged) staged->fill(world, weightsOfStages(base, plan));
        log = runCalibration(world, options, calibration, base, plan, std::move(input));
    }
    std::optional<ExpertStatistics> sensitivity;
    if (wantsSensitivity) sensitivity = provideSensitivity(world, options, base, calibration);
    writeLog(world, options, log, sensitivity);
    return source;
}

}  // namespace aimerge
