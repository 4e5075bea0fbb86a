#include "job/sweep_ledger.h"

#include "job/evaluation_step.h"
#include "job/expert_statistics_step.h"
#include "job/input_files.h"
#include "job/plan_step.h"

#include "aimerge/core/error.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/size_text.h"
#include "aimerge/corpus/corpus_files.h"
#include "aimerge/job/command_line.h"
#include "aimerge/merge/job_check.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

std::uint64_t modelsOf(const SweepPoint& point) {
    if (point.kind != PointKind::Merged) return 1;
    return 2 + static_cast<std::uint64_t>(std::ranges::count(point.combination, '+'));
}

/// How it is relaxed: by its method, and by what the grid has for `aim`.
std::string wayOf(const SweepPoint& point) {
    std::string way = point.method;
    for (const auto& [key, value] : point.grid)
        if (key.starts_with("aim_")) way += fmt::format(" {}={}", key, value);
    return way;
}

}  // namespace

MergeJob openPoint(const MergeConfig& config, const JobOptions& options) {
    checkMergeConfig(findMethod(config.method, config.methodMark), config);
    return openMergeJob(config, options.maxShardSize);
}

SweepLedger::SweepLedger(World& world, const JobOptions& options, const SweepConfig& sweep,
                         const std::vector<std::string>& only)
    : world_(world), options_(options), sweep_(sweep), folder_(sweep.directory) {
    std::string pending;
    if (world_.isRoot()) {
        const PointFilter filter(only, gridKeysOf(sweep_.points));
        if (!options_.dryRun) fs::create_directories(folder_);
        if (!options_.dryRun) acquireLocks(filter);
        journal_.emplace(folder_, options_.dryRun ? SweepJournal::Use::Read : SweepJournal::Use::Write);
        const std::string evaluation = digestOf(sweep_.evaluation);
        for (const SweepPoint& point : sweep_.points) {
            keys_.push_back(keyOf(point, evaluation));
            const PointResult* known = journal_->find(point.name, keys_.back());
            const bool isThere = sweep_.keep == Keep::Scores || point.kind != PointKind::Merged ||
                                 fs::exists(folder_ / point.name / "config.json");
            const bool isDone = known && known->status == PointStatus::Done && isThere;
            PointResult& result = results_.emplace_back(known ? *known : PointResult{});
            // Without suites of the sweep's own there is nothing to do for them; a report may have
            // their scores from elsewhere.
            if (point.kind != PointKind::Merged && sweep_.evaluation.suites.empty()) result.status = PointStatus::Done;
            const bool isWanted = point.kind == PointKind::Merged ? filter.passes(point) : scores() && scoresModels_;
            pending += isWanted && !isDone ? '1' : '0';
        }
    }
    for (const char c : world.broadcast(std::move(pending))) pending_.push_back(c == '1');
    total_ = static_cast<std::size_t>(std::ranges::count(pending_, true));
}

/// Jobs on different combinations of one sweep work side by side.
void SweepLedger::acquireLocks(const PointFilter& filter) {
    std::set<std::string> combinations;
    for (const SweepPoint& point : sweep_.points)
        if (point.kind == PointKind::Merged && filter.passes(point)) combinations.insert(point.combination);
    for (const std::string& combination : combinations)
        locks_.push_back(JobLock::acquire(folder_ / (".lock-" + combination), commandLine()));
    if (!scores()) return;
    try {
        locks_.push_back(JobLock::acquire(folder_ / ".lock", commandLine()));
    } catch (const UsageError&) {
        spdlog::info("the base and the experts are being scored by another job on this sweep");
        scoresModels_ = false;
    }
}

/// Digest of everything that decides a point's result.
std::string SweepLedger::keyOf(const SweepPoint& point, const std::string& evaluation) {
    Hasher hasher;
    hasher.updateField(evaluation);
    if (point.kind != PointKind::Merged) {
        const Checkpoint model = Checkpoint::openOver(sweep_.baseModel, point.model);
        return hasher.updateField(model.headerDigest().hex()).updateField(model.identityStamps()).digest().hex();
    }
    try {
        const MergeJob job = openPoint(*point.config, options_);
        if (options_.dryRun) checkPlanned(point, job);
        hasher.updateField(inputDigest(job));
    } catch (const Error& error) {  // it fails in the same way when its turn comes, and is recorded then
        refusals_[point.name] = error.what();
        hasher.updateField(error.what());
    }
    return hasher.digest().hex();
}

/// What a merge's plan refuses. Points that are relaxed in one way go by the same statistics of one base.
void SweepLedger::checkPlanned(const SweepPoint& point, const MergeJob& job) {
    requireExpertCalibration(job);
    if (!point.isRelaxed()) return;
    const auto [refusal, isNew] = planned_.try_emplace(wayOf(point));
    if (isNew) {
        try {
            plannedCoverage(job);
        } catch (const Error& error) {
            refusal->second = error.what();
        }
    }
    if (!refusal->second.empty()) throw InputError("{}", refusal->second);
}

void SweepLedger::announce(std::size_t i) const {
    if (world_.isRoot()) spdlog::info("{} of {}: {}", done_ + 1, total_, sweep_.points[i].name);
}

void SweepLedger::record(std::size_t i, PointResult result, double seconds) {
    ++done_;
    if (!world_.isRoot()) return;
    const std::string& name = sweep_.points[i].name;
    if (result.status == PointStatus::Failed) spdlog::error("{}: {}", name, result.error);
    result.key = keys_[i];
    result.seconds = seconds;
    if (sweep_.points[i].config) result.config = sweep_.points[i].config->text;
    journal_->record(name, result);
    results_[i] = std::move(result);
    writeTable();
    spent_ += seconds;
    std::string line = fmt::format("{} of {}: {} took {}", done_, total_, name, formatSeconds(seconds));
    for (const TaskScore& score : results_[i].scores)
        line += fmt::format(", {} {:.2f}", score.task, score.isPerplexity() ? score.value : 100 * score.value);
    if (done_ < total_)
        line += fmt::format(", left {}",
                            formatSeconds(spent_ / static_cast<double>(done_) * static_cast<double>(total_ - done_)));
    spdlog::info("{}", line);
}

void SweepLedger::writeTable() {
    if (!world_.isRoot()) return;
    journal_->refresh();
    for (std::size_t i = 0; i < sweep_.points.size(); ++i)
        if (const PointResult* known = journal_->find(sweep_.points[i].name, keys_[i])) results_[i] = *known;
    writeTextFile(folder_ / "points.csv", pointsCsv(sweep_.points, results_));
}

SweepOutcome SweepLedger::describe() const {
    SweepOutcome outcome;
    if (!world_.isRoot()) return outcome;
    const auto print = [&outcome](fmt::string_view format, const auto&... values) {
        outcome.table += fmt::vformat(format, fmt::make_format_args(values...));
    };
    const Checkpoint base = Checkpoint::open(sweep_.baseModel);
    const std::uint64_t modelBytes = base.totalBytes();
    std::uint64_t reads = 0, writes = 0;
    std::size_t width = 48;
    for (const SweepPoint& point : sweep_.points) width = std::max(width, point.name.size());
    std::set<std::string> read;  // combinations: their points are merged together
    for (std::size_t i = 0; i < sweep_.points.size(); ++i) {
        const SweepPoint& point = sweep_.points[i];
        const bool isMerged = pending_[i] && point.kind == PointKind::Merged;
        std::uint64_t own = pending_[i] ? modelsOf(point) * modelBytes : 0;
        if (isMerged && !read.insert(point.combination).second) own = 0;
        const std::uint64_t written = isMerged && sweep_.keep == Keep::Checkpoints ? modelBytes : 0;
        reads += own;
        writes += written;
        print("{:<{}} {:<8} reads {:>9}  writes {:>9}\n", point.name, width,
              !pending_[i]                     ? pointStatusName(results_[i].status)
              : refusals_.contains(point.name) ? "refused"
                                               : "to do",
              formatBytes(own), formatBytes(written));
    }
    print("{} of {} points to do: reads {}, writes {}, free disk {}", total_, sweep_.points.size(), formatBytes(reads),
          formatBytes(writes), formatBytes(freeDiskBytes(folder_)));

    double known = 0;
    std::size_t timed = 0;
    for (const PointResult& result : results_) {
        if (result.seconds <= 0) continue;
        known += result.seconds;
        ++timed;
    }
    if (timed > 0)
        print(", about {} (from {} points that are done)\n",
              formatSeconds(known / static_cast<double>(timed) * static_cast<double>(total_)), timed);
    else
        print(", about {} (a guess)\n", formatSeconds(guessedSeconds(base, reads + writes)));
    outcome.tried = total_;
    outcome.failed = reportRefusals();
    return outcome;
}

/// @return how many points that are to do cannot be made
std::size_t SweepLedger::reportRefusals() const {
    std::size_t refused = 0;
    std::set<std::string> said;  // the same reason for many points
    for (std::size_t i = 0; i < sweep_.points.size(); ++i) {
        const auto refusal = refusals_.find(sweep_.points[i].name);
        if (!pending_[i] || refusal == refusals_.end()) continue;
        ++refused;
        if (said.insert(refusal->second).second) spdlog::error("{}: {}", refusal->first, refusal->second);
    }
    return refused;
}

/// By the planner's figures. A token of a suite is taken for four bytes of its file.
double SweepLedger::guessedSeconds(const Checkpoint& base, std::uint64_t bytes) const {
    const Hardware hardware = hardwareOf(world_, options_);
    double weights = 0, suiteBytes = 0;
    for (const TensorInfo& tensor : base.tensors()) weights += static_cast<double>(tensor.elements());
    for (const std::string& suite : sweep_.evaluation.suites)
        for (const fs::path& file : corpusFiles(suite)) suiteBytes += static_cast<double>(fs::file_size(file));
    const double flops = 2 * weights * suiteBytes / 4 * static_cast<double>(total_);
    return (static_cast<double>(bytes) / hardware.bytesPerSecond + flops / hardware.flopsPerSecond) / world_.size();
}

SweepOutcome SweepLedger::finish() {
    SweepOutcome outcome;
    if (!world_.isRoot()) return outcome;
    writeTable();
    if (scores()) outcome.table = pointsTable(sweep_.points, results_);
    for (std::size_t i = 0; i < sweep_.points.size(); ++i)
        outcome.failed += pending_[i] && results_[i].status == PointStatus::Failed;
    spdlog::info("{}: {} of {} points done; tables and figures: aimerge report {}", sweep_.directory,
                 std::ranges::count(results_, PointStatus::Done, &PointResult::status), sweep_.points.size(),
                 sweep_.directory);
    outcome.tried = sweep_.points.size();
    return outcome;
}

}  // namespace aimerge
