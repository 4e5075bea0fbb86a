// aimerge sweep CONFIG: methods x combinations x omegas, merged and scored.

#include "cli/command_line.h"
#include "cli/input_files.h"
#include "cli/memory_points.h"
#include "cli/merge_run.h"
#include "cli/options.h"
#include "cli/plan_step.h"
#include "cli/shared_config.h"

#include "aimerge/checkpoint/job_lock.h"
#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/core/size_text.h"
#include "aimerge/core/version.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/experiment/sweep_record.h"
#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <list>
#include <set>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// What rank 0 alone knows.
struct RootRecord {
    std::vector<JobLock> locks;  // of the combinations that this job merges, and of the base and the experts
    bool scoresModels = true;    // no other job scores the base and the experts
    std::optional<SweepJournal> journal;
    std::vector<std::string> keys;     // per point
    std::vector<PointResult> results;  // per point
};

class SweepRun {
public:
    SweepRun(World& world, const Options& options, const SweepConfig& sweep)
        : world_(world),
          options_(options),
          sweep_(sweep),
          folder_(sweep.directory),
          threads_(threadsPerRank(world, options)) {}

    void run() {
        findPending();
        if (options_.dryRun) return describe();
        if (std::ranges::any_of(pending_, std::identity{})) {
            prepare();
            for (std::size_t i = 0; i < points().size(); ++i)
                if (pending_[i] && points()[i].kind != PointKind::Merged) scoreAlone(i);
            sweep_.keep == Keep::Checkpoints ? runCheckpoints() : runScores();
        }
        finish();
    }

private:
    const std::vector<SweepPoint>& points() const { return sweep_.points; }
    bool scores() const { return !sweep_.evaluation.suites.empty(); }

    // ---- what there is to do

    void findPending() {
        std::string pending;
        if (world_.isRoot()) {
            const PointFilter filter(options_.only);
            if (!options_.dryRun) fs::create_directories(folder_);
            if (!options_.dryRun) acquireLocks(filter);
            root_.journal.emplace(folder_, options_.dryRun ? SweepJournal::Use::Read : SweepJournal::Use::Write);
            const std::string evaluation = evaluationDigest();
            for (const SweepPoint& point : points()) {
                root_.keys.push_back(keyOf(point, evaluation));
                const PointResult* known = root_.journal->find(point.name, root_.keys.back());
                const bool isDone = known && known->status == PointStatus::Done && isThere(point);
                root_.results.push_back(known ? *known : PointResult{});
                const bool isWanted =
                    point.kind == PointKind::Merged ? filter.passes(point) : scores() && root_.scoresModels;
                pending += isWanted && !isDone ? '1' : '0';
            }
        }
        pending = world_.broadcast(std::move(pending));
        for (const char c : pending) pending_.push_back(c == '1');
        total_ = static_cast<std::size_t>(std::ranges::count(pending_, true));
    }

    /// Jobs on different combinations of one sweep work side by side. @throws UsageError naming the job that has one of ours
    void acquireLocks(const PointFilter& filter) {
        std::set<std::string> combinations;
        for (const SweepPoint& point : points())
            if (point.kind == PointKind::Merged && filter.passes(point)) combinations.insert(point.combination);
        for (const std::string& combination : combinations)
            root_.locks.push_back(JobLock::acquire(folder_ / (".lock-" + combination), commandLine()));
        if (!scores()) return;
        try {
            root_.locks.push_back(JobLock::acquire(folder_ / ".lock", commandLine()));
        } catch (const UsageError&) {
            spdlog::info("the base and the experts are being scored by another job on this sweep");
            root_.scoresModels = false;
        }
    }

    bool isThere(const SweepPoint& point) const {
        return sweep_.keep == Keep::Scores || point.kind != PointKind::Merged ||
               fs::exists(folder_ / point.name / "config.json");
    }

    /// Digest of the suites' contents and of how they are scored.
    std::string evaluationDigest() const {
        Hasher hasher;
        hasher.updateField(kVersion);
        for (const std::string& suite : sweep_.evaluation.suites) hasher.updateField(readTextFile(suite));
        hasher.updateField(fmt::format("{} {} {} {}", torchName(sweep_.evaluation.computeDtype),
                                       static_cast<int>(sweep_.evaluation.choices), sweep_.evaluation.blockLength,
                                       sweep_.evaluation.tokensPerBatch));
        return hasher.digest().hex();
    }

    /// Digest of everything that decides a point's result.
    std::string keyOf(const SweepPoint& point, const std::string& evaluation) const {
        Hasher hasher;
        hasher.updateField(evaluation);
        if (point.kind != PointKind::Merged) {
            const Checkpoint model = Checkpoint::openOver(sweep_.baseModel, point.model);
            return hasher.updateField(model.headerDigest().hex()).updateField(model.fileStamps()).digest().hex();
        }
        try {
            hasher.updateField(inputDigest(openPoint(*point.config)));
        } catch (const Error& error) {  // it fails in the same way when its turn comes, and is recorded then
            hasher.updateField(error.what());
        }
        return hasher.digest().hex();
    }

    MergeJob openPoint(const MergeConfig& config) const {
        checkMergeConfig(findMethod(config.method, config.methodMark), config);
        return openMergeJob(config, parseSize(options_.maxShardSize));
    }

    void describe() const {
        if (!world_.isRoot()) return;
        const Checkpoint base = Checkpoint::open(sweep_.baseModel);
        std::uint64_t reads = 0, writes = 0;
        double known = 0;
        std::size_t timed = 0;
        for (const PointResult& result : root_.results) {
            if (result.seconds <= 0) continue;
            known += result.seconds;
            ++timed;
        }
        for (std::size_t i = 0; i < points().size(); ++i) {
            const SweepPoint& point = points()[i];
            const bool isMerged = point.kind == PointKind::Merged;
            const std::uint64_t models = isMerged ? 2 + std::ranges::count(point.combination, '+') : 1;
            const std::uint64_t read = pending_[i] ? models * base.totalBytes() : 0;
            const std::uint64_t written =
                pending_[i] && isMerged && sweep_.keep == Keep::Checkpoints ? base.totalBytes() : 0;
            reads += read;
            writes += written;
            fmt::print("{:<48} {:<8} reads {:>9}  writes {:>9}\n", point.name,
                       pending_[i] ? "to do" : pointStatusName(root_.results[i].status), formatBytes(read),
                       formatBytes(written));
        }
        fmt::print("{} of {} points to do: reads {}, writes {}, free disk {}", total_, points().size(), formatBytes(reads),
                   formatBytes(writes), formatBytes(freeDiskBytes(folder_)));
        if (timed > 0)
            fmt::print(", about {} (from {} points that are done)",
                       formatSeconds(known / static_cast<double>(timed) * static_cast<double>(total_)), timed);
        fmt::print("\n");
    }

    // ---- before the first point

    void prepare() {
        const Checkpoint base = openInTurn(world_, [&] { return Checkpoint::open(sweep_.baseModel); });
        if (scores()) {
            requireWholeModel(base);
            evaluation_.emplace(Evaluation::prepare(world_, sweep_.evaluation, base));
        }
        bool relaxes = false;
        for (std::size_t i = 0; i < points().size(); ++i) relaxes = relaxes || (pending_[i] && points()[i].isRelaxed());
        if (relaxes) provideStatistics(base);
        writeTable();
    }

    /// Collective. The log lies in the sweep's folder, and in the cache for the points' own merges.
    void provideStatistics(const Checkpoint& base) {
        requireWholeModel(base);
        const AimConfig& aim = *sweep_.aim;
        std::optional<StatisticsLog> log;
        CalibrationInput input;
        std::string planText;
        if (world_.isRoot()) {
            if (!aim.statisticsPath.empty()) {
                log = readGivenStatistics(aim.statisticsPath, base, threads_);
            } else {
                input = prepareCalibration(aim.calibration, base, threads_, options_.computesOn);
                if (input.isCached)
                    log = readStatisticsLog(input.cachedLog);
                else
                    planText = makePlan(base, {},
                                        planSettings(world_, options_,
                                                     {input.blocks.blocks, input.blocks.length, &aim.calibration}))
                                   .toJson();
            }
        }
        planText = world_.broadcast(std::move(planText));
        if (!planText.empty()) {
            StatisticsLog made =
                runCalibration(world_, options_, aim.calibration, base, Plan::fromJson(planText), std::move(input));
            if (world_.isRoot()) log = std::move(made);
        }
        const fs::path path = folder_ / kStatisticsLogName;
        if (world_.isRoot()) writeStatisticsLog(path, *log);
        world_.barrier();
        statistics_ = readStatisticsLog(path).modules;
    }

    // ---- points

    /// Collective. A piece of work on point i whose failure is the point's own.
    void attempt(std::size_t i, const std::function<EvaluationResult()>& work) {
        throwIfAnyInterrupted(world_);
        const auto start = Clock::now();
        PointResult result;
        if (world_.isRoot()) spdlog::info("{} of {}: {}", done_ + 1, total_, points()[i].name);
        try {
            result.scores = work().tasks;
            result.status = PointStatus::Done;
            if (scores()) result.scoredBy = fmt::format("aimerge {}", torchName(sweep_.evaluation.computeDtype));
        } catch (const SharedFailure& failure) {
            result.status = PointStatus::Failed;
            result.error = failure.what();
            if (world_.isRoot()) spdlog::error("{}: {}", points()[i].name, failure.what());
        }
        const auto bad =
            std::ranges::find_if(result.scores, [](const TaskScore& task) { return !std::isfinite(task.value); });
        if (bad != result.scores.end()) {
            result.status = PointStatus::Failed;
            result.error =
                fmt::format("{}: the score is no finite number; the model is damaged or its training diverged", bad->task);
            result.scores.clear();
            spdlog::error("{}: {}", points()[i].name, result.error);
        }
        record(i, std::move(result), secondsSince(start));
    }

    void record(std::size_t i, PointResult result, double seconds) {
        ++done_;
        if (!world_.isRoot()) return;
        result.key = root_.keys[i];
        result.seconds = seconds;
        root_.journal->record(points()[i].name, result);
        root_.results[i] = std::move(result);
        writeTable();
        spent_ += seconds;
        std::string line = fmt::format("{} of {}: {} took {}", done_, total_, points()[i].name, formatSeconds(seconds));
        for (const TaskScore& score : root_.results[i].scores)
            line += fmt::format(", {} {:.2f}", score.task, score.isPerplexity() ? score.value : 100 * score.value);
        if (done_ < total_)
            line += fmt::format(", left {}",
                                formatSeconds(spent_ / static_cast<double>(done_) * static_cast<double>(total_ - done_)));
        spdlog::info("{}", line);
    }

    EvaluationResult score(const WeightSource& model, const Plan& plan) const {
        return evaluation_->score(world_, model,
                                  {plan, threads_, progressMode(world_, options_), throwIfInterrupted, options_.computesOn});
    }

    EvaluationResult scoreFolder(const std::string& folder) {
        std::optional<Checkpoint> model;
        shareFailures(world_, [&] {
            model = Checkpoint::openOver(sweep_.baseModel, folder);
            requireWholeModel(*model);
        });
        return score(*model, planEvaluation(world_, options_, *evaluation_, *model));
    }

    void scoreAlone(std::size_t i) {
        attempt(i, [&] { return scoreFolder(points()[i].model); });
    }

    void runCheckpoints() {
        for (std::size_t i = 0; i < points().size(); ++i) {
            if (!pending_[i] || points()[i].kind != PointKind::Merged) continue;
            attempt(i, [&] {
                mergePoint(points()[i]);
                return scores() ? scoreFolder((folder_ / points()[i].name).string()) : EvaluationResult{};
            });
        }
    }

    /// What `aimerge merge` makes of the point's config.
    void mergePoint(const SweepPoint& point) {
        shareFailures(world_,
                      [&] { checkMergeConfig(findMethod(point.config->method, point.config->methodMark), *point.config); });
        Options options = options_;
        options.out = (folder_ / point.name).string();
        RootState root;
        root.takesOver = true;
        root.showsPlan = false;
        if (world_.isRoot())
            root.output.emplace(
                OutputFolder::acquire({options.out, inputPaths(*point.config), ExistingOutput::Replace, commandLine()}));
        mergeDocument(world_, options, *point.config, root, FailureScope::Work);
        world_.barrier();  // rank 0 has published it
    }

    /// All points of a combination of experts are merged together, as many as memory holds.
    void runScores() {
        std::vector<std::vector<std::size_t>> groups;
        for (std::size_t i = 0; i < points().size(); ++i) {
            if (!pending_[i] || points()[i].kind != PointKind::Merged) continue;
            const auto group = std::ranges::find_if(groups, [&](const std::vector<std::size_t>& known) {
                return points()[known.front()].combination == points()[i].combination;
            });
            group == groups.end() ? groups.push_back({i}) : group->push_back(i);
        }
        for (const std::vector<std::size_t>& group : groups) scoreCombination(group);
    }

    /// Points of one method, and the job that makes them.
    struct MethodPoints {
        MergeJob* job;
        std::vector<std::size_t> points;
    };

    void scoreCombination(const std::vector<std::size_t>& group) {
        std::list<MergeJob> jobs;
        std::vector<std::pair<MergeJob*, std::size_t>> open;  // every point with its job
        for (std::size_t begin = 0; begin < group.size();) {
            std::vector<std::size_t> own;
            const std::string& method = points()[group[begin]].method;
            for (; begin < group.size() && points()[group[begin]].method == method; ++begin) own.push_back(group[begin]);
            try {
                shareFailures(world_, [&] { jobs.push_back(openGroup(own)); });
                for (const std::size_t i : own) open.emplace_back(&jobs.back(), i);
            } catch (const SharedFailure& failure) {
                for (const std::size_t i : own) attempt(i, [&]() -> EvaluationResult { throw failure; });
            }
        }
        if (open.empty()) return;
        const MergeJob& first = *open.front().first;
        const Plan plan = planEvaluation(world_, options_, *evaluation_, first.base());
        const std::vector<std::string> names = ownTensors(first, plan);
        const std::size_t room = pointsInMemory(first);
        for (std::size_t begin = 0; begin < open.size(); begin += room) {
            std::vector<MethodPoints> together;
            for (std::size_t k = begin; k < std::min(begin + room, open.size()); ++k) {
                if (together.empty() || together.back().job != open[k].first) together.push_back({open[k].first, {}});
                together.back().points.push_back(open[k].second);
            }
            scoreTogether(together, plan, names);
        }
    }

    /// A job for all points of the group; their omegas are set later.
    MergeJob openGroup(const std::vector<std::size_t>& group) const {
        const auto relaxed = std::ranges::find_if(group, [&](std::size_t i) { return points()[i].isRelaxed(); });
        MergeJob job = openPoint(*points()[relaxed == group.end() ? group.front() : *relaxed].config);
        if (job.method->info().needs != ExpertStatistic::None)
            throw UsageError("{}: {} measures the experts first; use output.keep: checkpoints", job.config.methodMark.text(),
                             job.config.method);
        if (job.config.vocabulary.source != VocabularySource::None)
            throw UsageError("{}: a merged tokenizer needs output.keep: checkpoints", job.config.vocabulary.mark.text());
        return job;
    }

    /// What this rank's stage runs.
    std::vector<std::string> ownTensors(const MergeJob& job, const Plan& plan) const {
        const RankPlan& own = plan.ranks.at(static_cast<std::size_t>(world_.rank()));
        const bool runs = own.endLayer > own.firstLayer;
        const bool isFirst = runs && own.firstLayer == 0;
        const bool isLast = runs && own.endLayer == job.base().modelConfig().layers;
        std::vector<std::string> names;
        for (const OutputTensor& tensor : job.outputs) {
            const Place place = placeOf(tensor.name);
            const bool isOwn = place.part == Part::Layer       ? place.layer >= own.firstLayer && place.layer < own.endLayer
                               : place.part == Part::Embedding ? isFirst || isLast  // the head may be tied to it
                                                               : isLast;
            if (isOwn) names.push_back(tensor.name);
        }
        return names;
    }

    /// Collective.
    std::size_t pointsInMemory(const MergeJob& job) const {
        const std::uint64_t limit = givenMemoryLimit(options_);
        const auto machine =
            static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
        const std::uint64_t room = (limit > 0 ? limit : machine / static_cast<std::uint64_t>(world_.ranksOnNode())) / 2;
        std::uint64_t bytes = 0;
        for (const OutputTensor& tensor : job.outputs) bytes += tensor.bytes();
        const std::uint64_t perRank = std::max<std::uint64_t>(1, bytes / static_cast<std::uint64_t>(world_.size()));
        // The same on every rank: the least that any has room for.
        return static_cast<std::size_t>(
            std::max<std::int64_t>(1, -world_.maximum(-static_cast<std::int64_t>(room / perRank))));
    }

    /// Collective. Merges the points of all methods into memory, then scores one after the other.
    void scoreTogether(const std::vector<MethodPoints>& methods, const Plan& plan, const std::vector<std::string>& names) {
        const auto start = Clock::now();
        std::vector<MemoryPoints> merged;
        merged.reserve(methods.size());
        std::vector<MergePass> passes;
        std::size_t number = 0;
        for (const MethodPoints& method : methods) {
            method.job->points.clear();
            for (const std::size_t i : method.points)
                method.job->points.push_back({"", points()[i].isRelaxed() ? points()[i].omega : std::nullopt});
            passes.push_back({*method.job, merged.emplace_back(*method.job, names)});
            number += method.points.size();
        }
        ThreadPool threads(threads_);
        if (!names.empty()) mergePasses(world_, passes, names, statistics_, threads, mergesOn(options_));
        if (world_.isRoot())
            spdlog::info("{}: {} points merged in {}", points()[methods.front().points.front()].combination, number,
                         formatSeconds(secondsSince(start)));
        for (std::size_t m = 0; m < methods.size(); ++m) {
            for (std::size_t k = 0; k < methods[m].points.size(); ++k) {
                const std::size_t i = methods[m].points[k];
                attempt(i, [&] {
                    shareFailures(world_, [&] {
                        if (!passes[m].error.empty()) throw RuntimeFault("{}", passes[m].error);
                    });
                    return score(*merged[m].point(k, points()[i].name), plan);
                });
            }
        }
    }

    // ---- results

    /// With what other jobs have found out meanwhile.
    void writeTable() {
        if (!world_.isRoot()) return;
        root_.journal->refresh();
        for (std::size_t i = 0; i < points().size(); ++i)
            if (const PointResult* known = root_.journal->find(points()[i].name, root_.keys[i])) root_.results[i] = *known;
        writeTextFile(folder_ / "points.csv", pointsCsv(points(), root_.results));
    }

    void finish() {
        if (!world_.isRoot()) return;
        writeTable();
        if (scores()) fmt::print("{}", pointsTable(points(), root_.results));
        const auto count = [&](PointStatus status) {
            return static_cast<std::size_t>(std::ranges::count(root_.results, status, &PointResult::status));
        };
        std::size_t failed = 0;  // of what this job tried
        for (std::size_t i = 0; i < points().size(); ++i)
            failed += pending_[i] && root_.results[i].status == PointStatus::Failed;
        spdlog::info("{}: {} of {} points done; tables and figures: aimerge report {}", sweep_.directory,
                     count(PointStatus::Done), points().size(), sweep_.directory);
        if (failed > 0)
            throw RuntimeFault("{}: {} of {} points failed, see the column `error` of points.csv; the others are done",
                               sweep_.directory, failed, points().size());
    }

    World& world_;
    const Options& options_;
    const SweepConfig& sweep_;
    fs::path folder_;
    int threads_;
    RootRecord root_;
    std::vector<bool> pending_;
    std::size_t total_ = 0, done_ = 0;
    double spent_ = 0;
    std::optional<Evaluation> evaluation_;
    StatisticsByModule statistics_;
};

void declareSweep(CLI::App& app, Options& options) {
    app.add_option("config", options.subject, "Sweep config (YAML)")->required();
    app.add_option("--only", options.only,
                   "Only these merged points: method=ties,omega=0.4,combination=code+math (repeatable)");
    app.add_option("--max-shard-size", options.maxShardSize, "Largest shard to write")->capture_default_str();
    app.add_flag("--list-combinations", options.listCombinations,
                 "Print the combinations of experts, a line each, and do nothing else");
    declareJobOptions(app, options);
}

void listCombinations(const SweepConfig& sweep) {
    std::vector<std::string> known;
    for (const SweepPoint& point : sweep.points) {
        if (point.kind != PointKind::Merged || std::ranges::find(known, point.combination) != known.end()) continue;
        known.push_back(point.combination);
        fmt::print("{}\n", point.combination);
    }
}

void runSweep(World& world, const Options& options) {
    const std::string text = world.broadcast(world.isRoot() ? readMergeConfigText(options.subject) : "");
    const SweepConfig sweep = openInTurn(world, [&] { return parseSweepConfig(text, options.subject, options.overrides); });
    if (!options.listCombinations) return SweepRun(world, options, sweep).run();
    if (world.isRoot()) listCombinations(sweep);
}

}  // namespace

const Command kSweepCommand{"sweep", "Merge and score methods x combinations of experts x omegas", declareSweep, runSweep};

}  // namespace aimerge
