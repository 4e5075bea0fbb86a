#include "job/statistics_step.h"

#include "job/machines.h"
#include "job/plan_step.h"
#include "job/staged_models.h"

#include "aimerge/checkpoint/forward_identity.h"
#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/python_json.h"
#include "aimerge/core/revision.h"
#include "aimerge/core/temporary_folder.h"
#include "aimerge/core/utc_time.h"
#include "aimerge/core/version.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"
#include "aimerge/job/command_line.h"
#include "aimerge/merge/adapted_weights.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/statistics/statistics_log.h"
#include "aimerge/torch/torch_library.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <optional>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// Collective.
CalibrationResult calibrateMeasured(World& world, const CalibrationJob& job) {
    Phase phase("calibrate");
    CalibrationResult result = calibrateWithTorch(world, job);
    phase.addIdle(result.own.waitSeconds);
    phase.addRead(static_cast<std::uint64_t>(result.own.bytesRead));
    if (world.isRoot()) phase.addTokens(static_cast<std::uint64_t>(job.blocks.blocks * job.blocks.length));
    phase.lookAtMemoryOf(job.device);
    return result;
}

/// Everything that fixes a calibration's result, apart from the number of threads (architecture.md, "bits").
std::string cacheKey(const StatisticsOrigin& origin, const Checkpoint& base) {
    Hasher hasher;
    hasher.updateField(fmt::format("statistics {}", origin.revision));
    hasher.updateField(origin.baseDigest).updateField(digestOf(forwardIdentity(base.config())).hex());
    hasher.updateField(origin.tokensDigest).updateField(origin.dtype);
    hasher.updateField(std::to_string(origin.microBatch)).updateField(origin.device);
    return hasher.digest().hex();
}

/// @pre the log has its config.json. @throws InputError when its forward pass is not the model's
void requireSameForward(const fs::path& path, const StatisticsOrigin& origin, const Checkpoint& model, const char* remedy) {
    const std::optional<ForwardDifference> difference = [&] {
        try {
            return forwardDifference(parsePythonJson<nlohmann::ordered_json>(origin.baseConfig), model.config());
        } catch (const InputError& error) {
            throw InputError("{}: /base_config: {}; {}", path.string(), error.what(), remedy);
        }
    }();
    if (difference)
        throw InputError(
            "{}: these statistics were taken with another config.json than that of {}: {} is {} in the log and {} in the "
            "model, which changes its activations; {}",
            path.string(), model.name(), difference->key, difference->first, difference->second, remedy);
}

[[noreturn]] void throwForeign(const fs::path& path, const StatisticsLog& log, const Checkpoint& base) {
    throw InputError(
        "{}: these statistics were taken on another model ({}), not on the contents of {}; run aimerge calibrate for it",
        path.string(), log.origin.baseModel, base.name());
}

/// A cache is a convenience: where it cannot be written to, that is said and the job goes on.
template <typename Write>
void keepForLater(const fs::path& path, const Write& write) {
    try {
        std::error_code error;
        fs::create_directories(path.parent_path(), error);
        if (error) throw RuntimeFault("{}: the folder cannot be made: {}", path.parent_path().string(), error.message());
        write();
    } catch (const RuntimeFault& fault) {
        spdlog::warn("{}; it is not kept for the next run (AIMERGE_CACHE_DIR names another folder)", fault.what());
    }
}

}  // namespace

TokenBlocks broadcastBlocks(World& world, const TokenBlocks& mine) {
    std::string text;
    if (world.isRoot()) {
        text.assign(reinterpret_cast<const char*>(&mine.blocks), sizeof mine.blocks);
        text.append(reinterpret_cast<const char*>(&mine.length), sizeof mine.length);
        text.append(reinterpret_cast<const char*>(mine.ids.data()), mine.ids.size() * sizeof mine.ids[0]);
    }
    text = world.broadcast(std::move(text));
    TokenBlocks blocks;
    std::memcpy(&blocks.blocks, text.data(), sizeof blocks.blocks);
    std::memcpy(&blocks.length, text.data() + sizeof blocks.blocks, sizeof blocks.length);
    blocks.ids.resize(static_cast<std::size_t>(blocks.blocks * blocks.length));
    std::memcpy(blocks.ids.data(), text.data() + sizeof blocks.blocks + sizeof blocks.length,
                blocks.ids.size() * sizeof blocks.ids[0]);
    return blocks;
}

std::string contentDigestOf(const Checkpoint& base, int threads) {
    const std::string key = fmt::format("contents {}\n{}", revision::kContentDigest, base.identityStamps());
    const fs::path remembered = environment::cacheDirectory() / "digests" / digestOf(key).hex();
    if (isReadable(remembered)) return readTextFile(remembered);
    spdlog::info("reading {} once for its content digest", base.name());
    ThreadPool pool(threads);
    std::string digest = base.contentDigest(pool).hex();
    keepForLater(remembered, [&] { writeTextFile(remembered, digest); });
    return digest;
}

StatisticsLog lookAtGivenStatistics(const fs::path& path, const Checkpoint& base) {
    StatisticsLog log = readStatisticsLog(path);
    // Statistics that src/tools/record_statistics.py took come without a digest.
    if (log.origin.baseDigest.empty() && log.origin.baseFileStamps != base.fileStamps()) throwForeign(path, log, base);
    if (!log.origin.baseConfig.empty())
        requireSameForward(path, log.origin, base, "calibrate again, or record the statistics again");
    return log;
}

StatisticsLog readGivenStatistics(const fs::path& path, const Checkpoint& base, int threads) {
    StatisticsLog log = lookAtGivenStatistics(path, base);
    if (!log.origin.baseDigest.empty() && log.origin.baseDigest != contentDigestOf(base, threads))
        throwForeign(path, log, base);
    if (log.origin.baseConfig.empty())
        spdlog::warn(
            "{}: holds no config.json (/base_config), so it could not be compared with that of {}; statistics of the "
            "same weights with another rope_scaling, say, would go unnoticed",
            path.string(), base.name());
    return log;
}

StatisticsLog readCachedStatistics(const CalibrationInput& input, const Checkpoint& base) {
    StatisticsLog log = readStatisticsLog(input.cachedLog);
    constexpr const char* kRemedy = "something else was put into the cache in its place; remove it and calibrate again";
    if (log.origin.baseDigest != input.origin.baseDigest || log.origin.baseConfig.empty())
        throw InputError("{}: these are no statistics of {}; {}", input.cachedLog.string(), base.name(), kRemedy);
    requireSameForward(input.cachedLog, log.origin, base, kRemedy);
    return log;
}

CalibrationInput prepareCalibration(const CalibrationConfig& config, const Checkpoint& base, int threads,
                                    const Device& device) {
    const Phase phase("prepare");
    CalibrationInput input;
    input.blocks = loadTokenBlocks(config, base);
    StatisticsOrigin& origin = input.origin;
    origin.baseModel = base.name();
    origin.baseDigest = contentDigestOf(base, threads);
    origin.baseFileStamps = base.fileStamps();
    origin.baseConfig = dumpPythonJson(base.config(), 2);
    origin.corpus = config.inputName();
    origin.tokensDigest = digestOf(input.blocks).hex();
    origin.blocks = input.blocks.blocks;
    origin.blockLength = input.blocks.length;
    origin.tokens = input.blocks.blocks * input.blocks.length;
    origin.dtype = torchName(config.dtype);
    origin.microBatch = config.microBatch;
    origin.device = device.name;
    origin.vocabulary = config.tokenIds.empty() ? fmt::format("packing {}, shuffle {}, seed {}",
                                                              config.packing == Packing::Stream ? "stream" : "lines",
                                                              config.shuffle, config.seed)
                                                : "ready token ids";
    origin.revision = revision::kStatistics;
    origin.toolVersion = kVersion;
    input.cachedLog = environment::cacheDirectory() / "statistics" / (cacheKey(origin, base) + ".h5");
    input.isCached = isReadable(input.cachedLog);
    return input;
}

StatisticsLog runCalibration(World& world, const JobOptions& options, const CalibrationConfig& config,
                             const Checkpoint& base, const Plan& plan, CalibrationInput input, MergedLayers* merged) {
    const int threads = threadsPerRank(world, options);
    const TokenBlocks blocks = broadcastBlocks(world, input.blocks);
    const AdaptedWeights weights(base);
    const CalibrationJob job{weights,
                             config,
                             plan,
                             blocks,
                             threads,
                             memoryLimitBytes(options),
                             progressListener(world, options),
                             throwIfInterrupted,
                             options.computesOn,
                             merged};
    std::string machines = describeMachines(world, threads);
    CalibrationResult result = calibrateMeasured(world, job);

    StatisticsLog log{std::move(input.origin), std::move(result.modules), std::move(result.stages)};
    if (!world.isRoot()) return log;
    base.requireUnchanged();
    log.origin.ranks = world.size();
    log.origin.threadsPerRank = threads;
    log.origin.machines = std::move(machines);
    log.origin.commandLine = commandLine();
    log.origin.created = utcTimeText();
    keepForLater(input.cachedLog, [&] { writeStatisticsLog(input.cachedLog, log); });
    return log;
}

fs::path sequentialLog(const fs::path& cachedLog, const std::string& job) {
    Hasher hasher;
    hasher.updateField(cachedLog.stem().string()).updateField(job);
    return cachedLog.parent_path() / (hasher.digest().hex() + ".h5");
}

StatisticsLog provideStatistics(World& world, const JobOptions& options, const CalibrationConfig& config,
                                const Checkpoint& model, StagedModels* staged) {
    CalibrationInput input;
    std::string planText;
    if (world.isRoot()) {
        input = prepareCalibration(config, model, threadsPerRank(world, options), options.computesOn);
        const CalibrationSize size{input.blocks.blocks, input.blocks.length, &config};
        if (input.isCached)
            spdlog::info("statistics of {} reused from {}: the model and the tokens are the same", model.name(),
                         input.cachedLog.string());
        else
            planText = makePlan(model, {}, planSettings(world, options, size)).toJson();
    }
    planText = world.broadcast(std::move(planText));
    if (planText.empty()) return world.isRoot() ? readCachedStatistics(input, model) : StatisticsLog{};
    const Plan plan = Plan::fromJson(planText);
    if (staged) staged->fill(world, weightsOfStages(model, plan));
    return runCalibration(world, options, config, model, plan, std::move(input));
}

StatisticsByModule broadcastStatistics(World& world, const fs::path& log) {
    const std::string bytes = world.broadcast(world.isRoot() ? readTextFile(log) : "");
    if (world.isRoot()) return readStatisticsLog(log).modules;
    const TemporaryFolder folder;
    writeTextFile(folder.path() / kStatisticsLogName, bytes);
    return readStatisticsLog(folder.path() / kStatisticsLogName).modules;
}

std::vector<StatisticsByModule> activityStatistics(const AimConfig& aim, StatisticsByModule logged) {
    if (aim.relaxesExperts()) return separateStatistics(logged);
    std::vector<StatisticsByModule> one;
    one.push_back(std::move(logged));
    return one;
}

StatisticsLog provideExpertsStatistics(World& world, const JobOptions& options, const AimConfig& aim,
                                       std::span<const Checkpoint* const> experts) {
    std::vector<StatisticsByModule> modules;
    StatisticsLog combined;
    Hasher digests;
    std::string names;
    for (const Checkpoint* expert : experts) {
        combined = provideStatistics(world, options, aim.calibration, *expert);
        if (!world.isRoot()) continue;
        digests.updateField(combined.origin.baseDigest);
        names += (names.empty() ? "" : ", ") + expert->name();
        modules.push_back(std::move(combined.modules));
    }
    if (!world.isRoot()) return {};
    combined.origin.baseModel = fmt::format("{} of {}", sourceName(aim.source), names);
    combined.origin.baseDigest = digests.digest().hex();
    combined.origin.baseFileStamps.clear();
    combined.origin.baseConfig.clear();
    combined.modules = combineStatistics(modules, aim.source);
    return combined;
}

}  // namespace aimerge
