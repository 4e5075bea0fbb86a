#include "job/merge_step.h"

#include "job/merge_reading.h"

#include "aimerge/core/error.h"
#include "aimerge/core/read_ahead.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/tensor_assembly.h"

#include <spdlog/spdlog.h>

#include <set>
#include <span>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace aimerge {
namespace {

/// What is told of a tensor that is done.
struct Course {
    Progress& progress;
    const MergeReading::ByName* reading = nullptr;  // null: nothing is read ahead, or others read the tensors, too
    ReadAhead* ahead = nullptr;

    void readOnceMore(const std::string& tensor) const {
        const MergeReading::Range* const pieces = rangeOf(tensor);
        if (pieces != nullptr && pieces->endsWithOnePass) ahead->readOnceMore(pieces->begin, pieces->end);
    }
    void readNoMore(const std::string& tensor) const {
        if (const MergeReading::Range* pieces = rangeOf(tensor)) ahead->forget(pieces->begin, pieces->end);
    }

private:
    const MergeReading::Range* rangeOf(const std::string& tensor) const {
        if (reading == nullptr) return nullptr;
        const auto range = reading->find(tensor);
        return range == reading->end() ? nullptr : &range->second;
    }
};

/// The executor's numbers as names.
class NamingSink : public MergeSink {
public:
    /// @param firstPoint the executor's point 0 @param isLast no points of these tensors come after the executor's
    NamingSink(std::span<const std::string> names, std::size_t firstPoint, bool isLast, PointStore& store, Course& course)
        : names_(names), firstPoint_(firstPoint), isLast_(isLast), store_(store), course_(course) {}

    void write(std::size_t tensor, std::size_t point, std::uint64_t offset, std::span<const std::byte> bytes) override {
        store_.write(firstPoint_ + point, names_[tensor], offset, bytes);
        course_.progress.advance(0, bytes.size());
    }
    void prepared(std::size_t tensor) override {
        if (isLast_) course_.readOnceMore(names_[tensor]);
    }
    void finish(std::size_t tensor) override {
        if (!isLast_) return;
        store_.finish(names_[tensor]);
        course_.progress.advance(1, 0);
        course_.readNoMore(names_[tensor]);
    }

private:
    std::span<const std::string> names_;
    std::size_t firstPoint_;
    bool isLast_;
    PointStore& store_;
    Course& course_;
};

/// Some of a job's tensors.
struct Batch {
    std::vector<std::size_t> merged, copied;  // indices of the job's tensors
    std::vector<std::string> mergedNames, copiedNames;
};

Batch batchOf(const MergeJob& job, std::span<const std::size_t> tensors) {
    Batch batch;
    for (const std::size_t i : tensors) {
        const bool isMerged = job.tensors[i].action == MatchedTensor::Action::Merge;
        (isMerged ? batch.merged : batch.copied).push_back(i);
        (isMerged ? batch.mergedNames : batch.copiedNames).push_back(job.tensors[i].name);
    }
    return batch;
}

/// @param activity null without AIM
std::vector<TensorMerge> assembleMerges(const MergePass& pass, const Batch& batch, const Activity* activity) {
    const MergeJob& job = pass.job;
    const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
    std::vector<TensorMerge> merges;
    for (const std::size_t i : batch.merged)
        merges.push_back(assembleMerge(*job.method, job.config, job.models, job.tensors[i], pass.outputs()[i], alignment,
                                       activity, pass.experts));
    return merges;
}

/// @param tensors indices of the job's tensors
void mergeBatch(const MergePass& pass, std::span<const std::size_t> tensors, ThreadPool& threads, Course& course,
                const Device& device) {
    const MergeJob& job = pass.job;
    const Batch batch = batchOf(job, tensors);
    Activity activity{pass.statistics, pass.sensitivity};
    if (job.config.aim && job.config.aim->relaxesExperts()) {
        // The experts themselves differ from point to point: each is a merge of its own.
        for (std::size_t point = 0; point < job.points.size(); ++point) {
            activity.omega = job.points[point].omega;
            NamingSink sink(batch.mergedNames, point, point + 1 == job.points.size(), pass.store, course);
            mergeTensors(assembleMerges(pass, batch, &activity), {}, DeltaRounding::None, threads, sink, device);
        }
    } else {
        std::vector<std::optional<double>> omegas;
        for (const OutputPoint& point : job.points) omegas.push_back(point.omega);
        const bool rounds = job.config.aim && job.config.aim->roundBeforeRelaxing;
        std::vector<TensorMerge> merges = assembleMerges(pass, batch, job.config.aim ? &activity : nullptr);
        if (pass.kept)
            for (TensorMerge& merge : merges) merge.kept = &(*pass.kept)[merge.name];
        NamingSink sink(batch.mergedNames, 0, true, pass.store, course);
        mergeTensors(merges, omegas, rounds ? DeltaRounding::Bfloat16 : DeltaRounding::None, threads, sink, device);
    }
    std::vector<TensorCopy> copies;
    for (const std::size_t i : batch.copied) copies.push_back(assembleCopy(job.models, job.tensors[i], pass.outputs()[i]));
    NamingSink sink(batch.copiedNames, 0, true, pass.store, course);
    copyTensors(copies, job.points.size(), threads, sink);
}

/// Where the named tensors stand in job.tensors and job.outputs.
std::unordered_map<std::string_view, std::size_t> indicesOf(const MergeJob& job, std::span<const std::string> names) {
    std::unordered_map<std::string_view, std::size_t> known, indices;
    for (std::size_t i = 0; i < job.tensors.size(); ++i) known[job.tensors[i].name] = i;
    for (const std::string& name : names) indices[name] = known.at(name);
    return indices;
}

/// Tensors of so many output bytes are merged between two looks at the others.
/// @param bytes that all passes write of a tensor
Batches inBatches(std::span<const std::string_view> order, const std::unordered_map<std::string_view, std::uint64_t>& bytes,
                  const std::vector<std::unordered_map<std::string_view, std::size_t>>& indices) {
    Batches batches;
    std::uint64_t batchBytes = kBatchBytes;
    for (const std::string_view name : order) {
        if (batchBytes >= kBatchBytes) {
            batches.emplace_back(indices.size());
            batchBytes = 0;
        }
        for (std::size_t p = 0; p < indices.size(); ++p)
            if (const auto index = indices[p].find(name); index != indices[p].end())
                batches.back()[p].push_back(index->second);
        batchBytes += bytes.at(name);
    }
    return batches;
}

/// Counts all inputs of the passes, each once.
std::uint64_t bytesToRead(std::span<const MergePass> passes,
                          const std::vector<std::unordered_map<std::string_view, std::size_t>>& indices) {
    std::set<std::pair<std::string_view, std::string_view>> known;  // model, tensor
    std::uint64_t bytes = 0;
    for (std::size_t p = 0; p < passes.size(); ++p) {
        const MergeJob& job = passes[p].job;
        for (const auto& [name, index] : indices[p])
            for (const MatchedInput& input : job.tensors[index].inputs)
                if (input.tensor && known.emplace(job.models.models[input.model].name(), input.tensor->name).second)
                    bytes += input.tensor->bytes.size();
    }
    return bytes;
}

}  // namespace

void WriterStore::write(std::size_t point, const std::string& tensor, std::uint64_t offset,
                        std::span<const std::byte> bytes) {
    writers_[point]->write(tensor, offset, bytes);
}

void WriterStore::finish(const std::string& tensor) {
    for (const auto& writer : writers_) writer->finishTensor(tensor);
}

std::vector<std::string> adoptFinished(const std::vector<std::string>& mine, std::vector<FinishedTensor> claims,
                                       PointWriters& writers, ThreadPool& threads, std::uint64_t readAheadBytes) {
    const std::unordered_set<std::string_view> isMine(mine.begin(), mine.end());
    std::erase_if(claims, [&](const FinishedTensor& claim) { return !isMine.contains(claim.tensor); });
    std::unordered_map<std::string, std::size_t> adopted;  // by so many writers
    for (const auto& writer : writers) {
        writer->adopt(claims, threads, readAheadBytes);
        for (const FinishedTensor& finished : writer->finished()) ++adopted[finished.tensor];
    }
    std::vector<std::string> remaining;
    for (const std::string& name : mine)
        if (adopted[name] < writers.size()) remaining.push_back(name);
    return remaining;
}

void mergeNow(const MergePass& pass, ThreadPool& threads, const Device& device) {
    const auto indices = indicesOf(pass.job, pass.names);
    std::vector<std::size_t> batch;
    for (const std::string& name : pass.names) batch.push_back(indices.at(name));
    Progress silent(ProgressMode::None, "merge", "tensors", batch.size(), 0);
    Course course{silent};
    mergeBatch(pass, batch, threads, course, device);
}

void mergePasses(World& world, std::span<MergePass> passes, ThreadPool& threads, const ProgressListener& listener,
                 const Device& device, std::uint64_t readAheadBytes, const std::function<void()>& afterBatch) {
    std::vector<std::unordered_map<std::string_view, std::size_t>> indices;  // per pass
    std::vector<std::string_view> order;                                     // of the tensors of all passes
    std::unordered_map<std::string_view, std::uint64_t> bytes;               // that all passes write of a tensor
    std::uint64_t totalTensors = 0, totalBytes = 0;
    for (const MergePass& pass : passes) {
        indices.push_back(indicesOf(pass.job, pass.names));
        for (const std::string& name : pass.names) {
            const std::uint64_t own = pass.job.outputs[indices.back().at(name)].bytes() * pass.job.points.size();
            if (!bytes.contains(name)) order.push_back(name);
            bytes[name] += own;
            totalBytes += own;
        }
        totalTensors += pass.names.size();
    }
    Phase phase("merge");
    phase.addRead(bytesToRead(passes, indices));
    phase.addWritten(totalBytes);
    Progress progress(listener, "merge", "tensors", totalTensors, totalBytes);

    const Batches batches = inBatches(order, bytes, indices);
    MergeReading reading = readingOf(passes, batches, readAheadBytes, threads.threads());
    ReadAhead ahead(std::move(reading.pieces), readAheadBytes);
    Course course{progress, passes.size() == 1 ? &reading.ranges.front() : nullptr, &ahead};
    for (std::size_t b = 0; b < batches.size(); ++b) {
        for (std::size_t p = 0; p < passes.size(); ++p) {
            if (batches[b][p].empty() || passes[p].error) continue;
            try {
                mergeBatch(passes[p], batches[b][p], threads, course, device);
            } catch (const Interrupted&) {
                throw;
            } catch (const Error&) {
                passes[p].error = std::current_exception();
            }
        }
        ahead.forget(b == 0 ? 0 : reading.ends[b - 1], reading.ends[b]);
        spdlog::debug("merge: batch {} of {} done", b + 1, batches.size());
        throwIfInterrupted();
        world.throwIfPeerFailed();
        afterBatch();
    }
    spdlog::debug("merge: read ahead {} past the page cache, {} through it", formatBytes(ahead.directBytes()),
                  formatBytes(ahead.cachedBytes()));
    progress.finish();
    phase.lookAtMemoryOf(device);
    if (!world.isRoot()) return;  // others may have copies of their own
    for (MergePass& pass : passes) {
        try {
            for (const Checkpoint& model : pass.job.models.models) model.requireUnchanged();
        } catch (const InputError&) {
            pass.error = std::current_exception();
        }
    }
}

}  // namespace aimerge
