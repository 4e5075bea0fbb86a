#include "job/merge_reading.h"

#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>

namespace aimerge {
namespace {

/// A stretch of every input, then the next one: as a tensor is merged.
void addTensor(const MergeJob& job, const MatchedTensor& tensor, const InputReading& read, std::vector<PieceAhead>& pieces) {
    std::vector<std::vector<PieceAhead>> ofInputs;
    std::size_t most = 0;
    for (const std::size_t input : read.inputs) {
        const MatchedInput& matched = tensor.inputs[input];
        ofInputs.push_back(job.models.models[matched.model].piecesOf(*matched.tensor, read.reading));
        most = std::max(most, ofInputs.back().size());
    }
    for (std::size_t i = 0; i < most; ++i)
        for (const std::vector<PieceAhead>& ofInput : ofInputs)
            if (i < ofInput.size()) pieces.push_back(ofInput[i]);
}

/// In memory until the tensor is done: its inputs, and those of the outputs that are made with it, which are as much wider.
/// @param tensor number in the job
std::uint64_t keptBytes(const MergeJob& job, std::size_t tensor, const InputReading& read, std::uint64_t outputBytes) {
    const MatchedTensor& matched = job.tensors[tensor];
    std::uint64_t bytes = 0;
    for (const std::size_t input : read.inputs)
        if (matched.inputs[input].tensor) bytes += matched.inputs[input].tensor->bytes.size();
    const double width =
        static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(job.outputs[tensor].bytes(), 1));
    const double group = width * static_cast<double>(outputBytes);
    return std::min(bytes + static_cast<std::uint64_t>(group), bytesOf(job.models));
}

/// What several passes read stays in memory until their batch is done, if that fits.
void keepBatch(std::span<PieceAhead> pieces, std::uint64_t memory) {
    if (distinctBytes(pieces) > filledAhead(memory)) return;
    for (PieceAhead& piece : pieces) piece.reading = Reading::Kept;
}

}  // namespace

std::uint64_t bytesOf(const ModelSet& models) {
    std::uint64_t bytes = 0;
    for (const Checkpoint& model : models.models) bytes += model.totalBytes();
    return bytes;
}

std::uint64_t memoryToReadOnce(const MergeJob& job, std::size_t passes, int threads, std::uint64_t most) {
    const std::uint64_t madeAtOnce =
        passes > 1 ? kBatchBytes / (passes * std::max<std::size_t>(job.points.size(), 1)) : preparedAtOnceBytes(threads);
    const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
    std::uint64_t largest = 0;
    for (std::size_t i = 0; i < job.tensors.size(); ++i) {
        const InputReading read = inputReading(*job.method, job.config, job.models, job.tensors[i], alignment);
        if (passes == 1 && read.reading != Reading::Repeated) continue;
        const std::uint64_t bytes = keptBytes(job, i, read, madeAtOnce);
        if (bytes <= most) largest = std::max(largest, bytes);
    }
    return largest;
}

MergeReading readingOf(std::span<const MergePass> passes, const Batches& batches, std::uint64_t memory, int threads) {
    MergeReading all;
    all.ranges.resize(passes.size());
    for (const std::vector<std::vector<std::size_t>>& batch : batches) {
        const std::size_t firstOfBatch = all.pieces.size();
        for (std::size_t p = 0; p < passes.size(); ++p) {
            const MergeJob& job = passes[p].job;
            const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
            for (const std::size_t i : batch[p]) {
                InputReading read = inputReading(*job.method, job.config, job.models, job.tensors[i], alignment);
                if (passes.size() > 1)
                    read.reading = Reading::Repeated;
                else if (read.reading == Reading::Repeated &&
                         keptBytes(job, i, read, preparedAtOnceBytes(threads)) <= filledAhead(memory))
                    read.reading = Reading::Kept;
                const std::size_t begin = all.pieces.size();
                addTensor(job, job.tensors[i], read, all.pieces);
                all.ranges[p][job.tensors[i].name] = {begin, all.pieces.size(), read.endsWithOnePass};
            }
        }
        if (passes.size() > 1) keepBatch(std::span(all.pieces).subspan(firstOfBatch), memory);
        all.ends.push_back(all.pieces.size());
    }
    return all;
}

}  // namespace aimerge
