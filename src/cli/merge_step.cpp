#include "cli/merge_step.h"

#include "aimerge/core/error.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>
#include <atomic>
#include <span>
#include <string_view>
#include <unordered_map>

namespace aimerge {
namespace {

/// Output bytes between two looks at signals and at the other ranks: well under a second of work.
constexpr std::uint64_t kBatchBytes = std::uint64_t{256} << 20;

class WriterStore : public PointStore {
public:
    WriterStore(PointWriters& writers, Progress& progress) : writers_(writers), progress_(progress) {}

    void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override {
        writers_[point]->write(tensor, offset, bytes);
        progress_.advance(0, bytes.size());
    }

    void finish(const std::string& tensor) override {
        for (const auto& writer : writers_) writer->finishTensor(tensor);
        progress_.advance(1, 0);
    }

private:
    PointWriters& writers_;
    Progress& progress_;
};

/// The executor's numbers as names.
class NamingSink : public MergeSink {
public:
    NamingSink(std::vector<std::string> names, PointStore& store) : names_(std::move(names)), store_(store) {}

    void write(std::size_t tensor, std::size_t point, std::uint64_t offset, std::span<const std::byte> bytes) override {
        store_.write(point, names_[tensor], offset, bytes);
    }
    void finish(std::size_t tensor) override { store_.finish(names_[tensor]); }

private:
    std::vector<std::string> names_;
    PointStore& store_;
};

void mergeBatch(const MergeJob& job, const StatisticsByModule& statistics, std::span<const ExpertStatistics> experts,
                std::span<const std::size_t> batch, PointStore& store, ThreadPool& threads, const Device& device) {
    const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
    const StatisticsByModule* activity = job.config.aim ? &statistics : nullptr;
    std::vector<TensorMerge> merges;
    std::vector<TensorCopy> copies;
    std::vector<std::string> mergeNames, copyNames;
    for (const std::size_t i : batch) {
        const MatchedTensor& matched = job.tensors[i];
        if (matched.action == MatchedTensor::Action::Merge) {
            merges.push_back(
                assembleMerge(*job.method, job.config, job.models, matched, job.outputs[i], alignment, activity, experts));
            mergeNames.push_back(matched.name);
        } else {
            copies.push_back(assembleCopy(job.models, matched, job.outputs[i]));
            copyNames.push_back(matched.name);
        }
    }
    std::vector<std::optional<double>> omegas;
    for (const OutputPoint& point : job.points) omegas.push_back(point.omega);
    const bool rounding = job.config.aim && job.config.aim->roundBeforeRelaxing;

    NamingSink mergeSink(std::move(mergeNames), store);
    mergeTensors(merges, omegas, rounding ? DeltaRounding::Bfloat16 : DeltaRounding::None, threads, mergeSink, device);
    NamingSink copySink(std::move(copyNames), store);
    copyTensors(copies, omegas.size(), threads, copySink);
}

/// Where the named tensors stand in job.tensors and job.outputs.
std::vector<std::size_t> indicesOf(const MergeJob& job, const std::vector<std::string>& names) {
    std::unordered_map<std::string_view, std::size_t> known;
    for (std::size_t i = 0; i < job.tensors.size(); ++i) known[job.tensors[i].name] = i;
    std::vector<std::size_t> indices;
    for (const std::string& name : names) indices.push_back(known.at(name));
    return indices;
}

/// Calls merge(first, count) for consecutive stretches of `indices`, of about kBatchBytes of output for `points` points
/// each.
/// @throws Interrupted and PeerFailed in between
template <typename Merge>
void forEachBatch(World& world, const MergeJob& job, std::span<const std::size_t> indices, std::size_t points,
                  const Merge& merge) {
    std::size_t first = 0;
    std::uint64_t batchBytes = 0;
    for (std::size_t i = 0; i < indices.size(); ++i) {
        batchBytes += job.outputs[indices[i]].bytes() * points;
        if (batchBytes < kBatchBytes && i + 1 < indices.size()) continue;
        merge(first, i + 1 - first);
        throwIfInterrupted();
        world.throwIfPeerFailed();
        first = i + 1;
        batchBytes = 0;
    }
}

}  // namespace

std::vector<std::string> adoptFinished(const MergeJob& job, const std::vector<std::string>& mine,
                                       const std::vector<FinishedTensor>& claims, PointWriters& writers,
                                       ThreadPool& threads) {
    std::unordered_map<std::string, std::size_t> numbers;
    for (std::size_t i = 0; i < mine.size(); ++i) numbers[mine[i]] = i;
    std::vector<const FinishedTensor*> ours;
    for (const FinishedTensor& claim : claims) {
        if (numbers.contains(claim.tensor)) ours.push_back(&claim);
    }
    std::vector<std::atomic<std::size_t>> adopted(mine.size());
    threads.forEach(ours.size(), [&](std::size_t i, int) {
        const auto point = std::ranges::find(job.points, ours[i]->folder, &OutputPoint::folder);
        if (point == job.points.end()) return;
        const auto& writer = writers[static_cast<std::size_t>(point - job.points.begin())];
        if (writer->adopt(ours[i]->tensor, ours[i]->digest)) ++adopted[numbers.at(ours[i]->tensor)];
    });
    std::vector<std::string> remaining;
    for (std::size_t i = 0; i < mine.size(); ++i) {
        if (adopted[i] < writers.size()) remaining.push_back(mine[i]);
    }
    return remaining;
}

void mergePasses(World& world, std::span<MergePass> passes, const std::vector<std::string>& names,
                 const StatisticsByModule& statistics, ThreadPool& threads, const Device& device) {
    std::vector<std::vector<std::size_t>> indices;  // per pass
    std::size_t points = 0;
    for (const MergePass& pass : passes) {
        indices.push_back(indicesOf(pass.job, names));
        points += pass.job.points.size();
    }
    forEachBatch(world, passes.front().job, indices.front(), points, [&](std::size_t first, std::size_t count) {
        for (std::size_t p = 0; p < passes.size(); ++p) {
            MergePass& pass = passes[p];
            if (!pass.error.empty()) continue;
            try {
                mergeBatch(pass.job, statistics, {}, std::span(indices[p]).subspan(first, count), pass.store, threads,
                           device);
            } catch (const Interrupted&) {
                throw;
            } catch (const Error& error) {
                pass.error = error.what();
            }
        }
    });
}

void mergeShare(World& world, const MergeJob& job, const std::vector<std::string>& names,
                const StatisticsByModule& statistics, std::span<const ExpertStatistics> experts, PointWriters& writers,
                ThreadPool& threads, ProgressMode mode, const Device& device) {
    const std::vector<std::size_t> indices = indicesOf(job, names);
    std::uint64_t totalBytes = 0;
    for (const std::size_t i : indices) totalBytes += job.outputs[i].bytes() * job.points.size();
    Progress progress(mode, "merge", "tensors", names.size(), totalBytes);
    WriterStore store(writers, progress);
    forEachBatch(world, job, indices, job.points.size(), [&](std::size_t first, std::size_t count) {
        mergeBatch(job, statistics, experts, std::span(indices).subspan(first, count), store, threads, device);
    });
    progress.finish();
}

}  // namespace aimerge
