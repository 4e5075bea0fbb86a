#include "cli/merge_run.h"

#include "cli/command_line.h"
#include "cli/expert_statistics_step.h"
#include "cli/input_files.h"
#include "cli/merge_step.h"
#include "cli/plan_step.h"
#include "cli/publish_step.h"
#include "cli/shared_config.h"

#include "aimerge/checkpoint/manifest.h"
#include "aimerge/checkpoint/verify.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// Rank 0: the statistics that are there already, or what it takes to make them.
void findStatistics(const MergeJob& job, int threads, const Device& device, RootState& root) {
    if (!job.config.aim) return;
    if (!job.config.aim->statisticsPath.empty()) {
        root.statistics = readGivenStatistics(job.config.aim->statisticsPath, job.base(), threads);
        return;
    }
    root.calibration = prepareCalibration(job.config.aim->calibration, job.base(), threads, device);
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

/// Rank 0: true when the output is there already, from the same document and inputs.
bool isDone(const RootState& root) {
    const fs::path manifest = root.output->target() / kManifestFileName;
    if (!root.takesOver || !fs::exists(manifest)) return false;
    try {
        if (parseManifest(readTextFile(manifest), manifest.string()).inputDigest != root.inputDigest) return false;
    } catch (const InputError& damage) {
        spdlog::warn("{}; merging again", damage.what());
        return false;
    }
    spdlog::info("{}: complete, from the same document and inputs; taken over", root.output->target().string());
    return true;
}

/// Collective. Rank 0's plan on every rank; empty text when the job ends here (--dry-run, or nothing is left to do).
std::string sharePlan(World& world, const Options& options, const MergeJob& job, RootState& root) {
    std::string text;
    if (world.isRoot()) {
        const int threads = threadsPerRank(world, options);
        CalibrationSize calibration;
        if (options.dryRun) {
            if (job.config.aim && job.config.aim->statisticsPath.empty())
                calibration = calibrationSize(job.config.aim->calibration, job.base());
        } else {
            root.inputDigest = inputDigest(job);
            if (isDone(root)) return world.broadcast({});
            findStatistics(job, threads, options.computesOn, root);
            if (job.config.aim && !root.statistics) {
                calibration = {root.calibration.blocks.blocks, root.calibration.blocks.length, &job.config.aim->calibration};
            }
        }
        const PlanSettings settings = planSettings(world, options, calibration, job);
        const Plan plan = makePlan(job.base(), job.outputs, settings);
        if (root.showsPlan)
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
                          const Workplace& place, Journal& journal, FailureScope scope) {
    PointWriters writers;
    for (const OutputPoint& point : job.points) {
        writers.push_back(std::make_unique<ShardWriter>(place.buildFolder, point.folder, job.layout, journal));
    }
    const std::string claims = world.broadcast(world.isRoot() ? journalText(readJournals(place.partialFolder)) : "");
    const std::vector<std::string>& mine = plan.ranks.at(static_cast<std::size_t>(world.rank())).tensors;
    ThreadPool threads(threadsPerRank(world, options));
    const auto merge = [&] {
        const std::vector<std::string> remaining = adoptFinished(job, mine, parseJournal(claims), writers, threads);
        mergeShare(world, job, remaining, place.statistics, place.experts, writers, threads, progressMode(world, options),
                   mergesOn(options));
        for (const auto& writer : writers) writer->sync();
    };
    scope == FailureScope::Work ? shareFailures(world, merge) : merge();
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

void checkResult(const Options& options, int threads) {
    const VerifyReport report = verify(options.out, threads);
    if (!report.whole()) throw DamageFound("{}: {}", options.out, report.findings.front().text);
    spdlog::info("{}: read back, every checksum fits", options.out);
}

MergeJob openJob(World& world, const Options& options, const MergeConfig& config, FailureScope scope) {
    MergeJob job;
    const auto open = [&] {
        job = openMergeJob(config, parseSize(options.maxShardSize));
        requireExpertCalibration(job);
    };
    if (scope == FailureScope::Work)
        shareFailures(world, open);
    else
        openInTurn(world, [&] { return open(), true; });
    return job;
}

/// Everything from the locked output to the published one.
void mergeInto(World& world, const Options& options, const MergeConfig& config, RootState& root, FailureScope scope) {
    const auto began = std::chrono::steady_clock::now();
    const MergeJob job = openJob(world, options, config, scope);
    const std::string planText = sharePlan(world, options, job, root);
    if (planText.empty()) return;
    const Plan plan = Plan::fromJson(planText);
    completeStatistics(world, options, job, plan, root);
    const Workplace place = shareWorkplace(world, job, root, provideExpertStatistics(world, options, job));
    Journal journal(place.partialFolder, world.rank());
    const PointWriters writers = mergeAndSync(world, options, job, plan, place, journal, scope);
    const std::vector<FinishedTensor> finished = gatherFinished(world, writers);
    if (!world.isRoot()) return;
    completeAndPublish(job, root.inputDigest, finished, *root.output);
    reportDone(options, job, began);
    if (options.verifyAfter) checkResult(options, threadsPerRank(world, options));
}

}  // namespace

void mergeDocument(World& world, const Options& options, const MergeConfig& config, RootState& root, FailureScope scope) {
    try {
        mergeInto(world, options, config, root, scope);
    } catch (const InputError&) {
        if (root.output) root.output->discard();
        throw;
    } catch (const SharedFailure&) {
        if (root.output) root.output->discard();
        throw;
    } catch (const PeerFailed& failure) {
        if (root.output && failure.exitCode() == static_cast<int>(ExitCode::Input)) root.output->discard();
        throw;
    }
}

}  // namespace aimerge
