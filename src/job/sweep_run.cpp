// A sweep: methods x combinations x grid x omegas, merged and scored.

#include "job/evaluation_step.h"
#include "job/input_files.h"
#include "job/memory_points.h"
#include "job/merge_run.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/sweep_ledger.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/core/process_limits.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/job_options.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/merge/adapted_weights.h"
#include "aimerge/merge/coverage.h"
#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <list>
#include <map>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Merges that are made at the same time; each has the files of its models and its own shards open.
constexpr std::size_t kMostAtOnce = 16;

class SweepRun {
public:
    SweepRun(World& world, const JobOptions& options, const SweepConfig& sweep, const std::vector<std::string>& only)
        : world_(world),
          options_(options),
          sweep_(sweep),
          folder_(sweep.directory),
          threads_(threadsPerRank(world, options)),
          ledger_(world, options, sweep, only) {}

    SweepOutcome run() {
        if (options_.dryRun) return ledger_.describe();
        if (ledger_.hasPending()) {
            prepare();
            for (std::size_t i = 0; i < points().size(); ++i)
                if (ledger_.isPending(i) && points()[i].kind != PointKind::Merged) scoreAlone(i);
            sweep_.keep == Keep::Checkpoints ? runCheckpoints() : runScores();
        }
        return ledger_.finish();
    }

private:
    const std::vector<SweepPoint>& points() const { return sweep_.points; }
    bool scores() const { return !sweep_.evaluation.suites.empty(); }

    // ---- before the first point

    void prepare() {
        const Checkpoint base = openInTurn(world_, [&] { return Checkpoint::open(sweep_.baseModel); });
        requireSameInputs(world_, {&base});
        if (scores()) evaluation_.emplace(Evaluation::prepare(world_, sweep_.evaluation, base));
        bool relaxes = false;
        for (std::size_t i = 0; i < points().size(); ++i)
            relaxes = relaxes || (ledger_.isPending(i) && points()[i].isRelaxed());
        if (relaxes) provideBaseStatistics(base);
        ledger_.writeTable();
    }

    /// Collective. The log lies in the sweep's folder, and in the cache for the points' own merges.
    void provideBaseStatistics(const Checkpoint& base) {
        const AimConfig& aim = *sweep_.aim;
        StatisticsLog log;
        if (aim.statisticsPath.empty()) requireRunnable(base.modelConfig(), base.name());
        if (aim.statisticsPath.empty())
            log = provideStatistics(world_, options_, aim.calibration, base);
        else if (world_.isRoot())
            log = readGivenStatistics(aim.statisticsPath, base, threads_);
        statistics_[""] = {shared(log, kStatisticsLogName)};
    }

    /// Collective. Rank 0's log, through a file of the sweep's folder, on every rank.
    StatisticsByModule shared(const StatisticsLog& log, const std::string& fileName) const {
        const fs::path path = folder_ / fileName;
        if (world_.isRoot()) writeStatisticsLog(path, log);
        world_.barrier();
        return readStatisticsLog(path).modules;
    }

    /// Collective. What the job's AIM goes by: the base's activations, or those of its experts.
    std::span<const StatisticsByModule> statisticsFor(const MergeJob& job, const std::string& combination) {
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
    std::span<const StatisticsByModule> covering(const MergeJob& job, const std::string& key) {
        const std::vector<StatisticsByModule>& statistics = statistics_[key];
        const Coverage coverage = coverageOf(job.models, job.tensors, *job.config.aim, statistics.front());
        coverage.requireStacks();
        if (world_.isRoot() && covered_.insert(key).second) coverage.warn();
        return statistics;
    }

    // ---- points

    /// Collective. A piece of work on point i whose failure is the point's own.
    /// @param before seconds that the point has taken already
    void attempt(std::size_t i, const std::function<EvaluationResult()>& work, double before = 0) {
        throwIfAnyInterrupted(world_);
        const auto start = Clock::now();
        PointResult result;
        ledger_.announce(i);
        try {
            result.scores = work().tasks;
            result.status = PointStatus::Done;
            if (scores()) result.scoredBy = fmt::format("aimerge {}", torchName(sweep_.evaluation.computeDtype));
        } catch (const SharedFailure& failure) {
            result.status = PointStatus::Failed;
            result.error = failure.what();
        }
        const auto bad =
            std::ranges::find_if(result.scores, [](const TaskScore& task) { return !std::isfinite(task.value); });
        if (bad != result.scores.end()) {
            result.status = PointStatus::Failed;
            result.error =
                fmt::format("{}: the score is no finite number; the model is damaged or its training diverged", bad->task);
            result.scores.clear();
        }
        ledger_.record(i, std::move(result), before + secondsSince(start));
    }

    EvaluationResult score(const WeightSource& model, const Plan& plan) const {
        return scoreModel(world_, options_, *evaluation_, model, plan);
    }

    EvaluationResult scoreFolder(const std::string& folder) {
        std::optional<Checkpoint> model;
        shareFailures(world_, [&] { model = Checkpoint::openOver(sweep_.baseModel, folder); });
        requireSameInputs(world_, {&*model});
        return score(AdaptedWeights(*model), planEvaluation(world_, options_, *evaluation_, *model));
    }

    /// Points that differ by their AIM alone are one merge where omega is 1.
    EvaluationResult scoreOnce(std::size_t i, const std::function<EvaluationResult()>& work) {
        if (points()[i].isRelaxed()) return work();
        const std::string& config = points()[i].config->text;
        if (!scored_.contains(config)) scored_[config] = work();
        return scored_[config];
    }

    void scoreAlone(std::size_t i) {
        attempt(i, [&] { return scoreFolder(points()[i].model); });
    }

    /// The pending merged points by combination of experts.
    std::vector<std::vector<std::size_t>> pendingCombinations() const {
        std::vector<std::vector<std::size_t>> groups;
        for (std::size_t i = 0; i < points().size(); ++i) {
            if (!ledger_.isPending(i) || points()[i].kind != PointKind::Merged) continue;
            const auto group = std::ranges::find_if(groups, [&](const std::vector<std::size_t>& known) {
                return points()[known.front()].combination == points()[i].combination;
            });
            group == groups.end() ? groups.push_back({i}) : group->push_back(i);
        }
        return groups;
    }

    // ---- checkpoints

    /// The points of a combination are merged together: its models are read once for all of them.
    void runCheckpoints() {
        for (const std::vector<std::size_t>& group : pendingCombinations()) {
            std::vector<std::size_t> together;
            for (const std::size_t i : group) {
                // What is known of the experts lies in memory as long as a point is being merged.
                const bool isHeavy = findMethod(points()[i].config->method, points()[i].config->methodMark).info().needs !=
                                     ExpertStatistic::None;
                if (isHeavy)
                    mergeFolders({&i, 1});
                else
                    together.push_back(i);
            }
            for (std::size_t begin = 0; begin < together.size(); begin += kMostAtOnce)
                mergeFolders(std::span(together).subspan(begin, std::min(kMostAtOnce, together.size() - begin)));
        }
    }

    /// A point on its way into its folder.
    struct FolderPoint {
        explicit FolderPoint(std::size_t i) : index(i) {}
        std::size_t index;
        RootState root = {};
        std::optional<MergeRun> run = {};
    };

    /// What `aimerge merge` makes of the points' configs.
    void mergeFolders(std::span<const std::size_t> group) {
        const auto start = Clock::now();
        std::list<FolderPoint> begun;
        for (const std::size_t i : group) {
            try {
                beginFolder(begun.emplace_back(i));
            } catch (const SharedFailure& failure) {
                begun.pop_back();
                attempt(i, [&]() -> EvaluationResult { throw failure; });
            }
        }
        std::vector<MergePass> passes;
        for (FolderPoint& point : begun)
            if (!point.run->isSettled()) passes.push_back(point.run->pass());
        if (!passes.empty()) {
            ThreadPool threads(threads_);
            mergePasses(world_, passes, threads, progressListener(world_, options_), mergesOn(options_),
                        readAheadBytes(world_, options_, passes.front().job));
        }
        const double each = announceMerged(group.front(), passes.size(), secondsSince(start));

        auto pass = passes.begin();
        for (FolderPoint& point : begun) {
            const bool isSettled = point.run->isSettled();
            const auto publishAndScore = [&] {
                if (!isSettled) {
                    point.run->fitFeatures(*pass);
                    point.run->finish(*pass++);
                }
                world_.barrier();  // rank 0 has published it
                if (!scores()) return EvaluationResult{};
                const std::string folder = (folder_ / points()[point.index].name).string();
                return scoreOnce(point.index, [&] { return scoreFolder(folder); });
            };
            attempt(point.index, publishAndScore, isSettled ? 0 : each);
        }
    }

    void beginFolder(FolderPoint& point) {
        const SweepPoint& wanted = points()[point.index];
        JobOptions options = options_;
        options.out = (folder_ / wanted.name).string();
        point.root.takesOver = true;
        point.root.showsPlan = false;
        shareFailures(world_, [&] {
            checkMergeConfig(findMethod(wanted.config->method, wanted.config->methodMark), *wanted.config);
            if (world_.isRoot())
                point.root.output.emplace(OutputFolder::acquire(
                    {options.out, inputPaths(*wanted.config), ExistingOutput::Replace, commandLine()}));
        });
        point.run.emplace(world_, std::move(options), *wanted.config, point.root, FailureScope::Work);
        point.run->begin();
    }

    /// @return the seconds of each
    double announceMerged(std::size_t first, std::size_t number, double seconds) const {
        if (number == 0) return 0;
        if (world_.isRoot())
            spdlog::info("{}: {} {} merged in {}", points()[first].combination, number, number == 1 ? "point" : "points",
                         formatSeconds(seconds));
        return seconds / static_cast<double>(number);
    }

    // ---- scores alone

    /// All points of a combination of experts are merged together, as many as memory holds.
    void runScores() {
        for (const std::vector<std::size_t>& group : pendingCombinations()) scoreCombination(group);
    }

    /// Points that differ by omega alone: one job, which merges a part of them at a time.
    struct Setting {
        explicit Setting(std::size_t point) : points{point} {}
        std::vector<std::size_t> points;
        std::optional<MergeJob> job = {};
        KeptPreparations kept = {};
        std::size_t done = 0;  // of the points
    };

    /// Some points of a setting.
    struct SettingPoints {
        Setting* setting;
        std::vector<std::size_t> points;
    };

    std::list<Setting> settingsOf(const std::vector<std::size_t>& group) const {
        std::list<Setting> settings;
        for (const std::size_t i : group) {
            const auto setting = std::ranges::find_if(settings, [&](const Setting& known) {
                const SweepPoint& first = points()[known.points.front()];
                return first.method == points()[i].method && first.grid == points()[i].grid;
            });
            setting == settings.end() ? (void)settings.emplace_back(i) : setting->points.push_back(i);
        }
        return settings;
    }

    /// Collective. @return false when it cannot be opened, which is then every point's failure
    bool openSetting(Setting& setting) {
        try {
            shareFailures(world_, [&] { setting.job = openGroup(setting.points); });
            return true;
        } catch (const SharedFailure& failure) {
            for (const std::size_t i : setting.points) attempt(i, [&]() -> EvaluationResult { throw failure; });
            return false;
        }
    }

    void scoreCombination(const std::vector<std::size_t>& group) {
        std::list<Setting> settings = settingsOf(group);
        std::optional<Plan> plan;  // what follows is the same for all jobs: their models are
        std::vector<std::string> names;
        std::size_t room = 0;
        PointMemory memory;
        while (!settings.empty()) {
            std::vector<SettingPoints> together;
            std::size_t number = 0;
            for (auto setting = settings.begin(); setting != settings.end() && together.size() < kMostAtOnce;) {
                if (!setting->job && !openSetting(*setting)) {
                    setting = settings.erase(setting);
                    continue;
                }
                if (!plan) {
                    plan = planEvaluation(world_, options_, *evaluation_, setting->job->base());
                    names = ownTensors(*setting->job, *plan);
                    room = pointsInMemory(*setting->job);
                }
                SettingPoints& some = together.emplace_back(&*setting);
                for (; number < room && setting->done < setting->points.size(); ++number)
                    some.points.push_back(setting->points[setting->done++]);
                if (number == room) break;
                ++setting;
            }
            if (!together.empty()) scoreTogether(together, *plan, names, memory);
            std::erase_if(settings, [](const Setting& setting) { return setting.done == setting.points.size(); });
        }
    }

    /// A job for all points of the group; their omegas are set later.
    MergeJob openGroup(const std::vector<std::size_t>& group) const {
        const auto relaxed = std::ranges::find_if(group, [&](std::size_t i) { return points()[i].isRelaxed(); });
        MergeJob job = openPoint(*points()[relaxed == group.end() ? group.front() : *relaxed].config, options_);
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
            const Place place = job.models.output.placeOf(tensor.name);
            const bool isOwn = place.part == Part::Layer ? place.layer >= own.firstLayer && place.layer < own.endLayer
                               : place.part == Part::BeforeLayers ? isFirst || isLast  // the head may be tied to it
                                                                  : isLast;
            if (isOwn) names.push_back(tensor.name);
        }
        return names;
    }

    /// Collective.
    std::size_t pointsInMemory(const MergeJob& job) const {
        const std::uint64_t limit = options_.memoryLimit;
        const std::uint64_t room =
            (limit > 0 ? limit : availableMemory() / static_cast<std::uint64_t>(world_.ranksOnNode())) / 2;
        std::uint64_t bytes = 0;
        for (const OutputTensor& tensor : job.outputs) bytes += tensor.bytes();
        const std::uint64_t perRank = std::max<std::uint64_t>(1, bytes / static_cast<std::uint64_t>(world_.size()));
        // Equal on every rank: as many as the rank with the least memory can hold.
        return static_cast<std::size_t>(
            std::max<std::int64_t>(1, -world_.maximum(-static_cast<std::int64_t>(room / perRank))));
    }

    /// Collective. Null when the job's AIM does not go by it.
    const ExpertStatistics* sensitivityFor(const MergeJob& job) {
        if (!job.config.aim || !job.config.aim->usesSensitivity()) return nullptr;
        if (!sensitivity_) sensitivity_ = provideExpertStatistics(world_, options_, job).sensitivity;
        return &*sensitivity_;
    }

    /// What the merge itself makes of these tensors.
    static std::vector<std::string> unfittedOf(const MergeJob& job, std::vector<std::string> names) {
        if (job.featcal) std::erase_if(names, [&](const std::string& name) { return job.featcal->tensors.contains(name); });
        return names;
    }

    /// Collective. What feature calibration makes of a method's points.
    void fitInMemory(const MergePass& pass, MemoryPoints& to, const std::vector<std::string>& names) {
        if (!pass.job.featcal || world_.any(pass.error != nullptr)) return;
        FittedPoints target(pass, threads_, mergesOn(options_), to, names);
        runFeatcal(world_, options_, pass.job, provideFeatcalTexts(world_, options_, pass.job), target);
    }

    /// Collective. Merges the points of all settings into memory, then scores one after the other.
    void scoreTogether(const std::vector<SettingPoints>& settings, const Plan& plan, const std::vector<std::string>& names,
                       PointMemory& memory) {
        const auto start = Clock::now();
        std::vector<MemoryPoints> merged;
        merged.reserve(settings.size());
        std::vector<MergePass> passes;
        std::size_t number = 0;
        for (const auto& [setting, some] : settings) {
            MergeJob& job = *setting->job;
            job.points.clear();
            for (const std::size_t i : some)
                job.points.push_back({"", points()[i].isRelaxed() ? points()[i].omega : std::nullopt});
            const bool isWhole = some.size() == setting->points.size();
            passes.push_back({job,
                              unfittedOf(job, names),
                              statisticsFor(job, points()[some.front()].combination),
                              {},
                              sensitivityFor(job),
                              merged.emplace_back(job, names, memory),
                              isWhole ? nullptr : &setting->kept});
            number += some.size();
        }
        ThreadPool threads(threads_);
        mergePasses(world_, passes, threads, ProgressMode::None, mergesOn(options_),
                    readAheadBytes(world_, options_, passes.front().job));
        for (std::size_t m = 0; m < settings.size(); ++m) fitInMemory(passes[m], merged[m], names);
        const double each = announceMerged(settings.front().points.front(), number, secondsSince(start));
        for (std::size_t m = 0; m < settings.size(); ++m) {
            for (std::size_t k = 0; k < settings[m].points.size(); ++k) {
                const std::size_t i = settings[m].points[k];
                const auto takeAndScore = [&] {
                    shareFailures(world_, [&] {
                        if (passes[m].error) std::rethrow_exception(passes[m].error);
                    });
                    return scoreOnce(i, [&] { return score(*merged[m].point(k, points()[i].name), plan); });
                };
                attempt(i, takeAndScore, each);
            }
        }
    }

    World& world_;
    const JobOptions& options_;
    const SweepConfig& sweep_;
    fs::path folder_;
    int threads_;
    SweepLedger ledger_;
    std::optional<Evaluation> evaluation_;
    std::map<std::string, EvaluationResult> scored_;  // merges without AIM of this run, by their configs
    // As Activity has them: of the base: ""; of the experts of a combination.
    std::map<std::string, std::vector<StatisticsByModule>> statistics_;
    std::set<std::string> covered_;                // keys of statistics_ whose gaps have been named
    std::optional<ExpertStatistics> sensitivity_;  // made when first needed: a sweep has one base and one calibration
};

}  // namespace

SweepConfig openSweep(World& world, const JobOptions& options, const ConfigText& config) {
    const std::string text = world.broadcast(world.isRoot() ? config.text : "");
    return openInTurn(world, [&] {
        SweepConfig parsed = parseSweepConfig(text, config.name, options.overrides);
        for (SweepPoint& point : parsed.points)
            if (point.config) point.config->allowsCrimes = options.allowsCrimes;
        sayUnread(world, options, parsed.unread);
        if (world.isRoot())
            for (const std::string& remark : parsed.remarks) spdlog::info("{}", remark);
        return parsed;
    });
}

SweepOutcome sweep(World& world, const JobOptions& options, const SweepConfig& config,
                   const std::vector<std::string>& only) {
    return SweepRun(world, options, config, only).run();
}

}  // namespace aimerge
