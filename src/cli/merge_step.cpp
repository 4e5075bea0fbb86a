#include "cli/merge_step.h"

#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/relaxation.h"

#include <algorithm>
#include <atomic>
#include <unordered_map>

namespace aimerge {
namespace {

/// Output bytes between two looks at signals and at the other ranks: well under a second of work.
constexpr std::uint64_t kBatchBytes = std::uint64_t{256} << 20;

/// Passes finished bytes on to the writers of the points.
class WriterSink : public MergeSink {
public:
    WriterSink(std::vector<std::string> names, PointWriters& writers, Progress& progress)
        : names_(std::move(names)), writers_(writers), progress_(progress) {}

    void write(std::size_t tensor, std::size_t point, std::uint64_t offset, std::span<const std::byte> bytes) override {
        writers_[point]->write(names_[tensor], offset, bytes);
        progress_.advance(0, bytes.size());
    }

    void finish(std::size_t tensor) override {
        for (const auto& writer : writers_) writer->finishTensor(names_[tensor]);
        progress_.advance(1, 0);
    }

private:
    std::vector<std::string> names_;
    PointWriters& writers_;
    Progress& progress_;
};

/// Makes the executor's view of the job's tensors.
class TensorBuilder {
public:
    TensorBuilder(const MergeJob& job, const StatisticsByModule& statistics) : job_(job), statistics_(statistics) {
        for (std::size_t i = 0; i < job.tensors.size(); ++i) byName_[job.tensors[i].name] = i;
    }

    const MatchedTensor& matched(const std::string& name) const { return job_.tensors[byName_.at(name)]; }
    const OutputTensor& output(const std::string& name) const { return job_.outputs[byName_.at(name)]; }

    TensorMerge merge(const std::string& name) const {
        const MatchedTensor& tensor = matched(name);
        TensorMerge merge;
        merge.name = name;
        merge.shape = output(name).shape;
        merge.dtype = output(name).dtype;
        merge.method = job_.method;
        merge.parameters = parametersOf(job_, name);
        for (const std::size_t input : job_.methodInputs) merge.inputs.push_back(source(tensor, input));
        if (job_.config.aim) {
            merge.importance = importanceOf(name, merge.shape, *job_.config.aim, statistics_, job_.models.headIsWritten());
        }
        if (job_.method->info().base == BaseUse::Required || merge.importance)
            merge.base = source(tensor, job_.models.referenceIndex());
        return merge;
    }

    TensorCopy copy(const std::string& name) const {
        const MatchedTensor& tensor = matched(name);
        TensorCopy copy{name, output(name).dtype, {view(tensor, job_.models.referenceIndex())}};
        if (tensor.action == MatchedTensor::Action::CopyFromBase) return copy;
        for (std::size_t i = 0; i < tensor.inputs.size(); ++i) {
            if (i != job_.models.referenceIndex()) copy.inputs.push_back(view(tensor, i));
        }
        return copy;
    }

private:
    InputView view(const MatchedTensor& tensor, std::size_t input) const {
        return {&job_.models.models[input], tensor.inputs[input]};
    }

    std::shared_ptr<const TensorSource> source(const MatchedTensor& tensor, std::size_t input) const {
        if (!job_.vocabulary || !isVocabularyTensor(tensor.name) || job_.vocabulary->maps[input].isIdentity()) {
            return directSource(view(tensor, input));
        }
        std::vector<InputView> views;
        for (std::size_t i = 0; i < tensor.inputs.size(); ++i) views.push_back(view(tensor, i));
        return alignedSource(input, std::move(views), job_.vocabulary->maps[input]);
    }

    const MergeJob& job_;
    const StatisticsByModule& statistics_;
    std::unordered_map<std::string, std::size_t> byName_;
};

void mergeBatch(const MergeJob& job, const TensorBuilder& builder, const std::vector<std::string>& names,
                PointWriters& writers, ThreadPool& threads, Progress& progress) {
    std::vector<TensorMerge> merges;
    std::vector<TensorCopy> copies;
    std::vector<std::string> mergeNames, copyNames;
    for (const std::string& name : names) {
        const bool merged = builder.matched(name).action == MatchedTensor::Action::Merge;
        (merged ? mergeNames : copyNames).push_back(name);
        if (merged)
            merges.push_back(builder.merge(name));
        else
            copies.push_back(builder.copy(name));
    }
    std::vector<double> omegas;
    if (job.config.aim) omegas = job.config.aim->omegas;
    const bool rounding = job.config.aim && job.config.aim->roundBeforeRelaxing;

    WriterSink mergeSink(mergeNames, writers, progress);
    mergeTensors(merges, omegas, rounding ? DeltaRounding::Bfloat16 : DeltaRounding::None, threads, mergeSink);
    WriterSink copySink(copyNames, writers, progress);
    copyTensors(copies, writers.size(), threads, copySink);
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

void mergeShare(World& world, const MergeJob& job, const std::vector<std::string>& names,
                const StatisticsByModule& statistics, PointWriters& writers, ThreadPool& threads, ProgressMode mode) {
    const TensorBuilder builder(job, statistics);
    std::uint64_t totalBytes = 0;
    for (const std::string& name : names) totalBytes += builder.output(name).bytes() * writers.size();
    Progress progress(mode, "merge", "tensors", names.size(), totalBytes);

    std::vector<std::string> batch;
    std::uint64_t batchBytes = 0;
    for (std::size_t i = 0; i < names.size(); ++i) {
        batch.push_back(names[i]);
        batchBytes += builder.output(names[i]).bytes() * writers.size();
        if (batchBytes < kBatchBytes && i + 1 < names.size()) continue;
        mergeBatch(job, builder, batch, writers, threads, progress);
        throwIfInterrupted();
        world.throwIfPeerFailed();
        batch.clear();
        batchBytes = 0;
    }
    progress.finish();
}

}  // namespace aimerge
