#include "job/merge_run.h"

#include "job/expert_statistics_step.h"
#include "job/input_files.h"
#include "job/merge_step.h"
#include "job/plan_step.h"
#include "job/publish_step.h"
#include "job/sequential_step.h"
#include "job/shared_config.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/phase.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/output/manifest.h"
#include "aimerge/output/verify.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <span>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// AIM uses the base's activations.
bool measuresBase(const MergeJob& job) {
    return job.config.aim && job.config.aim->source == ActivationSource::Base;
}

/// Rank 0: the statistics that are there already, or what it takes to make them.
void findStatistics(const MergeJob& job, int threads, const Device& device, RootState& root) {
    if (!measuresBase(job)) return;
    if (!job.config.aim->statisticsPath.empty()) {
        root.statistics = readGivenStatistics(job.config.aim->statisticsPath, job.base(), threads);
        return;
    }
    root.calibration = prepareCalibration(job.config.aim->calibration, job.base(), threads, device);
    if (job.isSequential()) {
        root.calibration.cachedLog = sequentialLog(root.calibration.cachedLog, jobDigest(job, {}, {}));
        root.calibration.isCached = isReadable(root.calibration.cachedLog);
        root.calibration.origin.vocabulary += ", sequential";
    }
    if (!root.calibration.isCached) return;
    root.statistics = readCachedStatistics(root.calibration, job.base());
    spdlog::info("statistics reused from {}: the base and the tokens are the same", root.calibration.cachedLog.string());
}

std::string digestOfStatistics(const std::optional<StatisticsLog>& log) {
    if (!log) return {};
    Hasher hasher;
    for (const auto& [module, statistics] : log->modules) {
        hasher.updateField(module).updateField(std::to_string(statistics.inputAxis));
        hasher.update(std::as_bytes(std::span(statistics.expertTokens)));
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
    spdlog::info("{}: complete, from the same document and inputs; reused", root.output->target().string());
    return true;
}

/// Collective. Rank 0's plan on every rank; empty text when the job ends here (--dry-run, or nothing is left to do).
std::string sharePlan(World& world, const JobOptions& options, const MergeJob& job, RootState& root) {
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
            if (measuresBase(job) && !root.statistics) {
                calibration = {root.calibration.blocks.blocks, root.calibration.blocks.length, &job.config.aim->calibration};
            }
        }
        const PlanSettings settings = planSettings(world, options, calibration, job);
        const Plan plan = makePlan(job.base(), job.outputs, settings);
        if (root.showsPlan)
            showText(options, planTable(plan, settings, freeDiskBytes(options.out)) + expertStatisticsLines(job, settings) +
                                  featcalLine(job, settings) + (options.dryRun ? coverageLine(plannedCoverage(job)) : "") +
                                  "\n");
        requireDiskSpace(plan, options.out);
        if (!options.dryRun) text = plan.toJson();
    }
    return world.broadcast(std::move(text));
}

/// Collective. Calibrates when there are no statistics yet; afterwards rank 0 has them.
void completeStatistics(World& world, const JobOptions& options, const MergeJob& job, const Plan& plan,
                        std::optional<StagedModels>& staged, RootState& root) {
    if (job.config.aim && !measuresBase(job)) {
        StatisticsLog log = provideExpertsStatistics(world, options, *job.config.aim, job.expertCheckpoints());
        if (world.isRoot()) root.statistics = std::move(log);
        return;
    }
    if (!world.any(world.isRoot() && job.config.aim && !root.statistics)) return;
    if (staged) staged->fill(world, weightsOfStages(job.base(), plan));
    std::optional<JobLayers> layers;
    if (job.isSequential()) layers.emplace(job, threadsPerRank(world, options), mergesOn(options));
    StatisticsLog log = runCalibration(world, options, job.config.aim->calibration, job.base(), plan,
                                       std::move(root.calibration), layers ? &*layers : nullptr);
    if (world.isRoot()) root.statistics = std::move(log);
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

std::string namesText(const std::vector<std::string>& names) {
    return nlohmann::json(names).dump();
}

std::vector<std::string> parseNames(const std::string& text) {
    return nlohmann::json::parse(text);
}

void reportDone(const JobOptions& options, const MergeJob& job, double seconds) {
    spdlog::info("{}: {} {} of {} in {} {}, {}", options.out, job.points.size(),
                 job.points.size() == 1 ? "checkpoint" : "checkpoints", formatBytes(job.layout.totalBytes()),
                 job.layout.shards.size(), job.layout.shards.size() == 1 ? "shard" : "shards", formatSeconds(seconds));
}

void checkResult(const JobOptions& options, int threads) {
    const Phase phase("verify");
    const VerifyReport report = verify(options.out, threads);
    if (!report.whole()) throw DamageFound("{}: {}", options.out, report.findings.front().text);
    spdlog::info("{}: read back, every checksum fits", options.out);
}

/// Runs a step; when it finds that an input is wrong, the output is discarded.
template <typename Step>
void discardingOnBadInput(RootState& root, const Step& step) {
    try {
        step();
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

}  // namespace

MergeRun::MergeRun(World& world, JobOptions options, const MergeConfig& config, RootState& root, FailureScope scope)
    : world_(world), options_(std::move(options)), config_(config), root_(root), scope_(scope) {}

void MergeRun::begin() {
    discardingOnBadInput(root_, [&] {
        open();
        const std::string planText = sharePlan(world_, options_, job_, root_);
        if (planText.empty()) return;
        plan_ = Plan::fromJson(planText);
        completeStatistics(world_, options_, job_, *plan_, staged_, root_);
        takeOver();
        if (staged_) scatterInputs(world_, *staged_, job_, remaining_);
    });
}

void MergeRun::open() {
    MergeConfig config = config_;
    if (options_.scattersInputs) {
        std::set<std::string> names;
        withModels([&](const std::string& model) { return *names.insert(model).first; }, config_);
        staged_.emplace(world_, names);
        config = withModels([&](const std::string& model) { return staged_->nameHere(model); }, config_);
    }
    const auto open = [&] {
        job_ = openMergeJob(config, options_.maxShardSize);
        requireExpertCalibration(job_);
        if (options_.scattersInputs) requireNoSharedModels(job_);
    };
    if (scope_ == FailureScope::Work)
        shareFailures(world_, open);
    else
        openInTurn(world_, [&] { return open(), true; });
    if (staged_)
        staged_->dropNames();
    else
        requireSameInputs(world_, job_.checkpoints());
}

void requireNoSharedModels(const MergeJob& job) {
    const MergeConfig& config = job.config;
    if (job.method->info().needs != ExpertStatistic::None)
        throw UsageError("{}: {} measures the experts, which every rank must see for it; use --io direct",
                         config.methodMark.text(), config.method);
    if (config.aim && config.aim->usesExperts())
        throw UsageError("{}: aim.source measures the experts, which every rank must see for it; use --io direct",
                         config.aim->mark.text());
    if (job.isSequential())
        throw UsageError(
            "{}: aim.calibration.sequential merges while it measures, from models that every rank must see; use --io direct",
            config.aim->calibration.mark.text());
    if (config.featcal)
        throw UsageError(
            "{}: featcal runs the experts and merges beside them, from models that every rank must see; use --io direct",
            config.featcal->mark.text());
    if (config.aim) refuseSensitivity(*config.aim);
}

/// Now everything is known that decides the output's bytes.
void MergeRun::takeOver() {
    if (world_.isRoot() && job_.config.aim) {
        coverage_ = requiredCoverage(job_, activityStatistics(*job_.config.aim, root_.statistics->modules).front());
        coverage_->warn();
    }
    provided_ = provideExpertStatistics(world_, options_, job_);
    if (job_.featcal) {
        texts_ = provideFeatcalTexts(world_, options_, job_);
        provided_.keys += texts_->keys;
    }
    if (world_.isRoot()) {
        OutputFolder& output = *root_.output;
        const Preparation preparation =
            output.prepare(jobDigest(job_, digestOfStatistics(root_.statistics), provided_.keys));
        if (preparation == Preparation::Resumed)
            spdlog::info("{}: continuing the unfinished job", output.partialFolder().string());
        for (const OutputPoint& point : job_.points)
            ShardWriter::createFiles(output.buildFolder() / point.folder, job_.layout);
        if (root_.statistics) writeStatisticsLog(output.buildFolder() / kStatisticsLogName, *root_.statistics);
        partialFolder_ = output.partialFolder();
        buildFolder_ = output.buildFolder();
    }
    partialFolder_ = world_.broadcast(partialFolder_.string());
    buildFolder_ = world_.broadcast(buildFolder_.string());
    if (job_.config.aim) statistics_ = activityStatistics(*job_.config.aim, sharedStatistics());

    if (world_.isRoot() || !options_.gathersAtRoot) {
        journal_.emplace(partialFolder_, world_.rank());
        for (const OutputPoint& point : job_.points)
            writers_.push_back(std::make_unique<ShardWriter>(buildFolder_, point.folder, job_.layout, *journal_));
    }
    takeOverFinished();
    if (!options_.gathersAtRoot) return;
    if (world_.isRoot())
        incoming_.emplace(world_, job_.points.size(), store_);
    else
        outgoing_.emplace(job_);
}

/// Every rank looks after its own tensors; where rank 0 alone sees the output, it does for all. Fitted ones are rank 0's.
void MergeRun::takeOverFinished() {
    const auto isFitted = [&](const std::string& name) { return job_.featcal && job_.featcal->tensors.contains(name); };
    std::vector<std::string> mine = plan_->ranks.at(static_cast<std::size_t>(world_.rank())).tensors;
    std::erase_if(mine, isFitted);
    std::vector<std::string> looked = mine;
    if (options_.gathersAtRoot) {
        looked.clear();
        for (const RankPlan& rank : plan_->ranks) looked.insert(looked.end(), rank.tensors.begin(), rank.tensors.end());
        std::erase_if(looked, isFitted);
    }
    if (world_.isRoot() && job_.featcal)
        looked.insert(looked.end(), job_.featcal->tensors.begin(), job_.featcal->tensors.end());
    const std::vector<FinishedTensor> claims =
        parseJournal(world_.broadcast(world_.isRoot() ? journalText(readJournals(partialFolder_)) : ""));
    ThreadPool threads(threadsPerRank(world_, options_));
    const auto adopt = [&] {
        if (writers_.empty()) return;
        const std::uint64_t memory = claims.empty() ? 0 : readAheadBytes(world_, options_, job_);
        remaining_ = adoptFinished(looked, claims, writers_, threads, memory);
    };
    scope_ == FailureScope::Work ? shareFailures(world_, adopt) : adopt();
    std::ranges::copy_if(remaining_, std::inserter(unfitted_, unfitted_.end()), isFitted);
    std::erase_if(remaining_, isFitted);
    if (!options_.gathersAtRoot) return;
    const auto open = parseNames(world_.broadcast(namesText(remaining_)));
    const std::set<std::string> isOpen(open.begin(), open.end());
    std::erase_if(mine, [&](const std::string& name) { return !isOpen.contains(name); });
    remaining_ = std::move(mine);
}

StatisticsByModule MergeRun::sharedStatistics() const {
    const fs::path log = buildFolder_ / kStatisticsLogName;
    return options_.gathersAtRoot ? broadcastStatistics(world_, log) : readStatisticsLog(log).modules;
}

void scatterInputs(World& world, StagedModels& staged, const MergeJob& job, const std::vector<std::string>& names) {
    const Phase phase("scatter");
    std::map<std::string_view, const MatchedTensor*> known;
    for (const MatchedTensor& tensor : job.tensors) known[tensor.name] = &tensor;
    std::vector<std::vector<StagedTensor>> ofRanks;
    for (const std::string& text : world.gather(namesText(names))) {
        std::vector<StagedTensor>& inputs = ofRanks.emplace_back();
        for (const std::string& name : parseNames(text))
            for (const MatchedInput& input : known.at(name)->inputs)
                if (input.tensor) inputs.push_back({&job.models.models[input.model], input.tensor});
    }
    staged.fill(world, ofRanks);
}

MergeResult MergeRun::result() const {
    MergeResult result;
    for (const OutputPoint& point : job_.points) {
        const fs::path folder = fs::path(options_.out) / point.folder;
        result.checkpoints.push_back({point.folder.empty() ? fs::path(options_.out) : folder, point.omega});
    }
    result.bytes = job_.layout.totalBytes();
    if (coverage_) result.coverage = coverage_->json().dump();
    return result;
}

MergePass MergeRun::pass() {
    return {job_,
            remaining_,
            statistics_,
            provided_.experts,
            provided_.sensitivityOrNull(),
            outgoing_ ? static_cast<PointStore&>(*outgoing_) : store_};
}

void MergeRun::exchange() {
    if (outgoing_) outgoing_->send(world_);
    if (incoming_) incoming_->takeArrived();
}

void MergeRun::finishExchange() {
    if (outgoing_) outgoing_->sendEnd(world_);
    if (incoming_) incoming_->takeRest();
}

/// Into the output's files, on rank 0.
class FittedFiles : public MergedPoints {
public:
    /// @param unfitted of all fitted tensors those that are not finished yet
    FittedFiles(const MergePass& pass, int threads, const Device& device, fs::path build, PointWriters* writers,
                std::set<std::string> unfitted)
        : MergedPoints(pass, threads, device), build_(std::move(build)), writers_(writers), unfitted_(std::move(unfitted)) {}

    std::int64_t finishedLayers() override {
        std::int64_t finished = job().base().modelConfig().layers;
        for (const std::string& tensor : unfitted_) finished = std::min(finished, job().models.output.placeOf(tensor).layer);
        return finished;
    }

    std::string stored(std::size_t point, const std::string& tensor) override {
        const TensorInfo& info = job().layout.find(tensor);
        const File file =
            File::openForReading(build_ / job().points[point].folder / job().layout.shards[info.fileIndex].fileName);
        std::string bytes(info.bytes.size(), '\0');
        file.readAt(info.bytes.begin, std::as_writable_bytes(std::span(bytes)));
        return bytes;
    }

    void store(std::size_t point, const std::string& tensor, const std::string& bytes) override {
        if (writers_ == nullptr) return;
        ShardWriter& writer = *(*writers_)[point];
        writer.write(tensor, 0, std::as_bytes(std::span(bytes)));
        writer.finishTensor(tensor);
    }

private:
    fs::path build_;
    PointWriters* writers_;  // null on other ranks
    std::set<std::string> unfitted_;
};

void MergeRun::fitFeatures(const MergePass& pass) {
    if (!job_.featcal || world_.any(pass.error != nullptr)) return;
    FittedFiles target(pass, threadsPerRank(world_, options_), mergesOn(options_), buildFolder_,
                       world_.isRoot() ? &writers_ : nullptr, unfitted_);
    runFeatcal(world_, options_, job_, *texts_, target);
}

void MergeRun::finish(const MergePass& pass) {
    const Phase phase("publish");
    discardingOnBadInput(root_, [&] {
        const auto sync = [&] {
            if (pass.error) std::rethrow_exception(pass.error);
            for (const auto& writer : writers_) writer->sync();
        };
        scope_ == FailureScope::Work ? shareFailures(world_, sync) : sync();
        const std::vector<FinishedTensor> finished = gatherFinished(world_, writers_);
        if (!world_.isRoot()) return;
        Findings findings{root_.inputDigest, {}, {}};
        if (coverage_) findings.coverage = coverage_->json();
        if (job_.featcal) findings.featcal = featcalJson(job_, texts_->tokens());
        completeAndPublish(job_, findings, finished, *root_.output);
        if (coverage_) spdlog::info("AIM {}", coverage_->text());
        if (job_.featcal) spdlog::info("featcal {}", featcalText(job_, texts_->tokens()));
    });
}

MergeResult mergeDocument(World& world, const JobOptions& options, const MergeConfig& config, RootState& root) {
    const auto began = std::chrono::steady_clock::now();
    MergeRun run(world, options, config, root, FailureScope::Job);
    run.begin();
    if (run.isSettled()) return options.dryRun ? MergeResult{} : run.result();
    MergePass pass = run.pass();
    const int threadCount = threadsPerRank(world, options);
    ThreadPool threads(threadCount);
    discardingOnBadInput(root, [&] {  // a peer's
        mergePasses(world, {&pass, 1}, threads, progressListener(world, options), mergesOn(options),
                    readAheadBytes(world, options, run.job()), [&] { run.exchange(); });
        run.finishExchange();
        run.fitFeatures(pass);
    });
    run.finish(pass);
    MergeResult result = run.result();
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (!world.isRoot()) return result;
    reportDone(options, run.job(), result.seconds);
    if (options.verifyAfter) checkResult(options, threadCount);
    return result;
}

}  // namespace aimerge
