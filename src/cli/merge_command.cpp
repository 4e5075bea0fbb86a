// aimerge merge CONFIG --out DIR: the whole job, from model folders to a published checkpoint.

#include "cli/command_line.h"
#include "cli/expert_statistics_step.h"
#include "cli/merge_job.h"
#include "cli/merge_step.h"
#include "cli/options.h"
#include "cli/plan_step.h"
#include "cli/publish_step.h"
#include "cli/shared_config.h"
#include "cli/statistics_step.h"

#include "aimerge/checkpoint/adapter.h"
#include "aimerge/checkpoint/output_folder.h"
#include "aimerge/checkpoint/verify.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <optional>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// Folders and files that the job reads and the output must not touch. Names that are no local paths are in the hub cache.
std::vector<fs::path> inputPaths(const MergeConfig& config) {
    std::vector<fs::path> paths;
    const auto addCalibration = [&](const CalibrationConfig& calibration) {
        paths.emplace_back(calibration.corpus);
        paths.emplace_back(calibration.tokenIds);
    };
    const auto addModel = [&](const std::string& name) {
        const auto parts = splitAdaptedName(name);
        for (const std::string& part : parts ? std::vector{parts->base, parts->adapter} : std::vector{name})
            paths.emplace_back(part);
    };
    for (const Slice& slice : config.slices) {
        for (const ModelEntry& source : slice.sources) {
            addModel(source.model);
            if (source.calibration) addCalibration(*source.calibration);
        }
        addModel(slice.baseModel);
    }
    addModel(config.baseModel);
    if (config.calibration) addCalibration(*config.calibration);
    if (config.aim) {
        paths.emplace_back(config.aim->statisticsPath);
        addCalibration(config.aim->calibration);
    }
    std::erase_if(paths, [](const fs::path& path) { return path.empty() || !fs::exists(path); });
    return paths;
}

/// What rank 0 alone has before the ranks share the work.
struct RootState {
    std::optional<OutputFolder> output;
    std::optional<StatisticsLog> statistics;  // given or cached; absent without AIM, or until it is made
    CalibrationInput calibration;
};

/// Rank 0: the statistics that are there already, or what it takes to make them.
void findStatistics(const MergeJob& job, int threads, RootState& root) {
    if (!job.config.aim) return;
    if (!job.config.aim->statisticsPath.empty()) {
        root.statistics = readGivenStatistics(job.config.aim->statisticsPath, job.base(), threads);
        return;
    }
    root.calibration = prepareCalibration(job.config.aim->calibration, job.base(), threads);
    if (!root.calibration.isCached) return;
    root.statistics = readStatisticsLog(root.calibration.cachedLog);
    spdlog::info("statistics reused from {}: the base and the tokens are the same", root.calibration.cachedLog.string());
}

std::string digestOfStatistics(const std::optional<StatisticsLog>& log) {
    if (!log) return {};
    Hasher hasher;
    for (const auto& [module, statistics] : log->modules) {
        hasher.updateField(module);
        for (const auto* values : {&statistics.meanAbs, &statistics.rms, &statistics.maxAbs})
            hasher.update(std::as_bytes(std::span(*values)));
    }
    return hasher.digest().hex();
}

/// Collective. Rank 0's plan on every rank; empty text when the job ends here (--dry-run).
std::string sharePlan(World& world, const Options& options, const MergeJob& job, RootState& root) {
    std::string text;
    if (world.isRoot()) {
        const int threads = threadsPerRank(world, options);
        CalibrationSize calibration;
        if (options.dryRun) {
            if (job.config.aim && job.config.aim->statisticsPath.empty())
                calibration = calibrationSize(job.config.aim->calibration, job.base());
        } else {
            findStatistics(job, threads, root);
            if (job.config.aim && !root.statistics) {
                calibration = {root.calibration.blocks.blocks, root.calibration.blocks.length, &job.config.aim->calibration};
            }
        }
        const PlanSettings settings = planSettings(world, options, calibration, job);
        const Plan plan = makePlan(job.base(), job.outputs, settings);
        fmt::print(stderr, "{}{}\n", planTable(plan, settings, freeDiskBytes(options.out)), expertStatisticsLine(job));
        requireDiskSpace(plan, options.out);
        if (!options.dryRun) text = plan.toJson();
    }
    return world.broadcast(std::move(text));
}

/// Collective. Calibrates when there are no statistics yet; afterwards rank 0 has them.
void completeStatistics(World& world, const Options& options, const MergeJob& job, const Plan& plan, RootState& root) {
    if (!world.any(world.isRoot() && job.config.aim && !root.statistics)) return;
    StatisticsLog log =
        runCalibration(world, options, job.config.aim->calibration, job.base(), plan, std::move(root.calibration));
    if (world.isRoot()) root.statistics = std::move(log);
}

/// The partial output as every rank sees it.
struct Workplace {
    fs::path partialFolder, buildFolder;
    StatisticsByModule statistics;
    std::vector<ExpertStatistics> experts;
};

/// Collective. Rank 0 makes the partial folder ready, now that everything is known that decides its bytes.
Workplace shareWorkplace(World& world, const MergeJob& job, RootState& root, ProvidedStatistics provided) {
    Workplace place;
    place.experts = std::move(provided.experts);
    if (world.isRoot()) {
        OutputFolder& output = *root.output;
        const Preparation preparation = output.prepare(jobDigest(job, digestOfStatistics(root.statistics), provided.keys));
        if (preparation == Preparation::Resumed)
            spdlog::info("{}: continuing the unfinished job", output.partialFolder().string());
        for (const OutputPoint& point : job.points)
            ShardWriter::createFiles(output.buildFolder() / point.folder, job.layout);
        if (root.statistics) writeStatisticsLog(output.buildFolder() / kStatisticsLogName, *root.statistics);
        place.partialFolder = output.partialFolder();
        place.buildFolder = output.buildFolder();
    }
    place.partialFolder = world.broadcast(place.partialFolder.string());
    place.buildFolder = world.broadcast(place.buildFolder.string());
    if (job.config.aim) place.statistics = readStatisticsLog(place.buildFolder / kStatisticsLogName).modules;
    return place;
}

/// Collective. This rank's share of the tensors, from what an earlier run left to the last byte on disk.
PointWriters mergeAndSync(World& world, const Options& options, const MergeJob& job, const Plan& plan,
                          const Workplace& place, Journal& journal) {
    PointWriters writers;
    for (const OutputPoint& point : job.points) {
        writers.push_back(std::make_unique<ShardWriter>(place.buildFolder, point.folder, job.layout, journal));
    }
    const std::string claims = world.broadcast(world.isRoot() ? journalText(readJournals(place.partialFolder)) : "");
    const std::vector<std::string>& mine = plan.ranks.at(static_cast<std::size_t>(world.rank())).tensors;
    ThreadPool threads(threadsPerRank(world, options));
    const std::vector<std::string> remaining = adoptFinished(job, mine, parseJournal(claims), writers, threads);
    mergeShare(world, job, remaining, place.statistics, place.experts, writers, threads, progressMode(world, options));
    for (const auto& writer : writers) writer->sync();
    return writers;
}

/// Collective. All ranks' finished tensors, on rank 0.
std::vector<FinishedTensor> gatherFinished(World& world, const PointWriters& writers) {
    std::vector<FinishedTensor> mine;
    for (const auto& writer : writers) std::ranges::move(writer->finished(), std::back_inserter(mine));
    std::vector<FinishedTensor> all;
    for (const std::string& text : world.gather(journalText(mine)))
        std::ranges::move(parseJournal(text), std::back_inserter(all));
    return all;
}

void reportDone(const Options& options, const MergeJob& job, std::chrono::steady_clock::time_point began) {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    spdlog::info("{}: {} {} of {} in {} {}, {}", options.out, job.points.size(),
                 job.points.size() == 1 ? "checkpoint" : "checkpoints", formatBytes(job.layout.totalBytes()),
                 job.layout.shards.size(), job.layout.shards.size() == 1 ? "shard" : "shards", formatSeconds(seconds));
}

void declareMerge(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Merge config (YAML)")->required();
    app.add_option("--out", options.out, "Folder to write")->required();
    app.add_flag("--overwrite", options.overwrite, "Replace the folder if it exists, when the new one is complete");
    app.add_option("--max-shard-size", options.maxShardSize, "Largest shard to write")->capture_default_str();
    app.add_flag("--verify-after", options.verifyAfter, "Read the result back and check it before the command ends");
    declareJobOptions(app, options);
}

void checkResult(const Options& options, int threads) {
    const VerifyReport report = verify(options.out, threads);
    if (!report.whole()) throw DamageFound("{}: {}", options.out, report.findings.front().text);
    spdlog::info("{}: read back, every checksum fits", options.out);
}

/// Everything from the locked output to the published one.
void mergeInto(World& world, const Options& options, const MergeConfig& config, RootState& root) {
    const auto began = std::chrono::steady_clock::now();
    const MergeJob job = openInTurn(world, [&] { return openMergeJob(config, parseSize(options.maxShardSize)); });
    requireExpertCalibration(job);
    const std::string planText = sharePlan(world, options, job, root);
    if (options.dryRun) return;
    const Plan plan = Plan::fromJson(planText);
    completeStatistics(world, options, job, plan, root);
    const Workplace place = shareWorkplace(world, job, root, provideExpertStatistics(world, options, job));
    Journal journal(place.partialFolder, world.rank());
    const PointWriters writers = mergeAndSync(world, options, job, plan, place, journal);
    const std::vector<FinishedTensor> finished = gatherFinished(world, writers);
    if (!world.isRoot()) return;
    completeAndPublish(job, finished, *root.output);
    reportDone(options, job, began);
    if (options.verifyAfter) checkResult(options, threadsPerRank(world, options));
}

void runMerge(World& world, const Options& options) {
    requireDevice(options);
    const MergeConfig config = shareConfig(world, options, ConfigUse::Merge);
    RootState root;
    if (world.isRoot()) {
        const ExistingOutput existing = options.overwrite ? ExistingOutput::Replace : ExistingOutput::Refuse;
        root.output.emplace(OutputFolder::acquire({options.out, inputPaths(config), existing, commandLine()}));
    }
    try {
        mergeInto(world, options, config, root);
    } catch (const InputError&) {
        // What is wrong with an input does not get better by continuing: nothing of this output can be kept.
        if (root.output) root.output->discard();
        throw;
    } catch (const PeerFailed& failure) {
        if (root.output && failure.exitCode() == static_cast<int>(ExitCode::Input)) root.output->discard();
        throw;
    }
}

}  // namespace

const Command kMergeCommand{"merge", "Merge models into a checkpoint, with AIM when the config has an aim section",
                            declareMerge, runMerge};

}  // namespace aimerge
