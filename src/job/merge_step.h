#pragma once
// The merge itself: this rank's share of the tensors, read, combined, relaxed for every omega and written at its place.

#include "job/merge_job.h"

#include "aimerge/core/progress.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/device/device.h"
#include "aimerge/distributed/world.h"
#include "aimerge/merge/expert_statistics.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/output/shard_writer.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// One writer per point of the job.
using PointWriters = std::vector<std::unique_ptr<ShardWriter>>;

/// Where the merged tensors of the job's points go. Called from any thread, for different parts at the same time.
class PointStore {
public:
    virtual ~PointStore() = default;
    virtual void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
                       std::span<const std::byte> bytes) = 0;
    /// All bytes of the tensor have been written, for every point.
    virtual void finish(const std::string& tensor) = 0;
};

/// Local. Takes over what an earlier run has finished of this rank's tensors, as far as the bytes on disk bear it out.
/// @param writers of all points
/// @return names of the tensors that are still to be merged, in order
std::vector<std::string> adoptFinished(const std::vector<std::string>& mine, std::vector<FinishedTensor> claims,
                                       PointWriters& writers, ThreadPool& threads, std::uint64_t readAheadBytes);

/// Into files.
class WriterStore : public PointStore {
public:
    explicit WriterStore(PointWriters& writers) : writers_(writers) {}

    void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override;
    void finish(const std::string& tensor) override;

private:
    PointWriters& writers_;
};

/// By the name of the tensor.
using KeptPreparations = std::map<std::string, KeptPreparation>;

/// One of several merges of the same models.
struct MergePass {
    const MergeJob& job;
    std::vector<std::string> names;                  // of the tensors to be merged, in the job's order
    std::span<const StatisticsByModule> statistics;  // as Activity has them
    std::span<const ExpertStatistics> experts;
    const ExpertStatistics* sensitivity;  // of the base; null when AIM does not go by it
    PointStore& store;
    KeptPreparations* kept = nullptr;  // of earlier passes of the job, which had other points
    std::exception_ptr error = {};     // what went wrong with it, an Error; nothing more is merged then
    const std::vector<OutputTensor>* otherOutputs = nullptr;  // in the place of the job's: other dtypes

    const std::vector<OutputTensor>& outputs() const { return otherOutputs ? *otherOutputs : job.outputs; }
};

/// Local. Merges the pass's tensors at once.
void mergeNow(const MergePass& pass, ThreadPool& threads, const Device& device);

/// Local. Merges all passes a batch of tensors at a time, so that the inputs of a batch are read from disk once.
/// @param readAheadBytes of memory, for reading ahead of the merge
/// @param afterBatch called on this thread between two batches and after the last
/// @throws Interrupted and PeerFailed between two batches
void mergePasses(
    World& world, std::span<MergePass> passes, ThreadPool& threads, const ProgressListener& listener, const Device& device,
    std::uint64_t readAheadBytes, const std::function<void()>& afterBatch = [] {});

}  // namespace aimerge
