// A sweep: methods x combinations x grid x omegas, merged and scored.

#include "job/evaluation_step.h"
#include "job/input_files.h"
#include "job/memory_points.h"
#include "job/merge_run.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/sweep_ledger.h"
#include "job/sweep_statistics.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/core/process_limits.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/job_options.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/merge/adapted_weights.h"
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
          ledger_(world, options, sweep, only),
          statistics_(world, options, sweep) {}

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
        std::optional<StagedModels> staged;
        if (options_.scattersInputs) staged.emplace(world_, std::set{sweep_.baseModel});
        const Checkpoint base = openInTurn(world_, [&] { return Checkpoint::open(nameHere(staged, sweep_.baseModel)); });
        settle(staged, base);
        if (scores()) evaluation_.emplace(Evaluation::prepare(world_, sweep_.evaluation, base));
        bool relaxes = false;
        for (std::size_t i = 0; i < points().size(); ++i)
            relaxes = relaxes || (ledger_.isPending(i) && points()[i].isRelaxed());
        if (relaxes) statistics_.provideOfBase(base, staged ? &*staged : nullptr);
        ledger_.writeTable();
    }

    static std::string nameHere(const std::optional<StagedModels>& staged, const std::string& name) {
        return staged ? staged->nameHere(name) : name;
    }

    /// Collective. The model is open: what ranks see has to be the same, what they were sent is.
    void settle(std::optional<StagedModels>& staged, const Checkpoint& model) {
        if (staged)
            staged->dropNames();
        else
            requireSameInputs(world_, {&model});
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

    /// @param isSent the other ranks do not see its files
    EvaluationResult scoreFolder(const std::string& folder, bool isSent) {
        std::optional<Checkpoint> model;
        std::optional<StagedModels> staged;
        const auto open = [&] {
            model = Checkpoint::openOver(nameHere(staged, sweep_.baseModel), nameHere(staged, folder));
        };
        if (isSent) {
            shareFailures(world_, [&] {
                if (world_.isRoot()) open();
            });
            staged.emplace(world_, std::set{sweep_.baseModel, folder});
        }
        shareFailures(world_, open);
        settle(staged, *model);
        const Plan plan = planEvaluation(world_, options_, *evaluation_, *model);
        if (staged) staged->fill(world_, weightsOfStages(*model, plan, PassEnd::Head));
        return score(AdaptedWeights(*model), plan);
    }

    /// Points that differ by their AIM alone are one merge where omega is 1.
    EvaluationResult scoreOnce(std::size_t i, const std::function<EvaluationResult()>& work) {
        if (points()[i].isRelaxed()) return work();
        const std::string& config = points()[i].config->text;
        if (!scored_.contains(config)) scored_[config] = work();
        return scored_[config];
    }

    void scoreAlone(std::size_t i) {
        attempt(i, [&] { return scoreFolder(points()[i].model, options_.scattersInputs); });
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
            // What ranks send each other belongs to one merge.
            const std::size_t atOnce = options_.scattersInputs || options_.gathersAtRoot ? 1 : kMostAtOnce;
            for (std::size_t begin = 0; begin < together.size(); begin += atOnce)
                mergeFolders(std::span(together).subspan(begin, std::min(atOnce, together.size() - begin)));
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
                        readAheadBytes(world_, options_, passes.front().job, passes.size()), [&] {
                            for (FolderPoint& point : begun) point.run->exchange();
                        });
            for (FolderPoint& point : begun) point.run->finishExchange();
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
                const bool isSent = options_.scattersInputs || options_.gathersAtRoot;
                return scoreOnce(point.index, [&] { return scoreFolder(folder, isSent); });
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
            if (world_.isRoot() && options_.scattersInputs) (void)openPoint(*wanted.config, options_);
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
    /// @param staged with --io scatter, made when there is something to open
    bool openSetting(Setting& setting, std::optional<StagedModels>& staged) {
        try {
            if (options_.scattersInputs && !staged) {
                shareFailures(world_, [&] {
                    if (world_.isRoot()) (void)openGroup(setting.points, staged);
                });
                std::set<std::string> names;
                withModels([&](const std::string& model) { return *names.insert(model).first; },
                           *points()[setting.points.front()].config);
                staged.emplace(world_, names);
            }
            shareFailures(world_, [&] { setting.job = openGroup(setting.points, staged); });
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
            std::optional<StagedModels> staged;
            std::vector<const MergeJob*> opened;
            for (auto setting = settings.begin(); setting != settings.end() && together.size() < kMostAtOnce;) {
                if (!setting->job) {
                    if (!openSetting(*setting, staged)) {
                        setting = settings.erase(setting);
                        continue;
                    }
                    opened.push_back(&*setting->job);
                }
                if (!plan) {
                    plan = planEvaluation(world_, options_, *evaluation_, setting->job->base());
                    names = ownTensors(*setting->job, *plan);
                    room = pointsInMemory(*setting->job);
                }
                SettingPoints& some = together.emplace_back(SettingPoints{&*setting, {}});
                for (; number < room && setting->done < setting->points.size(); ++number)
                    some.points.push_back(setting->points[setting->done++]);
                if (number == room) break;
                ++setting;
            }
            if (staged) {
                staged->dropNames();
                for (const MergeJob* job : opened) scatterInputs(world_, *staged, *job, names);
            }
            if (!together.empty()) scoreTogether(together, *plan, names, memory);
            std::erase_if(settings, [](const Setting& setting) { return setting.done == setting.points.size(); });
        }
    }

    /// A job for all points of the group; their omegas are set later.
    MergeJob openGroup(const std::vector<std::size_t>& group, const std::optional<StagedModels>& staged) const {
        const auto relaxed = std::ranges::find_if(group, [&](std::size_t i) { return points()[i].isRelaxed(); });
        const MergeConfig& config = *points()[relaxed == group.end() ? group.front() : *relaxed].config;
        MergeJob job =
            openPoint(withModels([&](const std::string& model) { return nameHere(staged, model); }, config), options_);
        if (options_.scattersInputs) requireNoSharedModels(job);
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
                              statistics_.of(job, points()[some.front()].combination),
                              {},
                              statistics_.sensitivityFor(job),
                              merged.emplace_back(job, names, memory),
                              isWhole ? nullptr : &setting->kept});
            number += some.size();
        }
        ThreadPool threads(threads_);
        mergePasses(world_, passes, threads, ProgressMode::None, mergesOn(options_),
                    readAheadBytes(world_, options_, passes.front().job, passes.size()));
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
    SweepStatistics statistics_;
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
