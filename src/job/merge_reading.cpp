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

/// With the others of its group, which are as much wider than their outputs. Half of the memory is for what comes next.
bool canBeKept(const MatchedTensor& tensor, const InputReading& read, std::uint64_t outputBytes, std::uint64_t memory,
               int threads) {
    std::uint64_t bytes = 0;
    for (const std::size_t input : read.inputs) bytes += tensor.inputs[input].tensor->bytes.size();
    const double width = static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(outputBytes, 1));
    const double group = width * static_cast<double>(preparedAtOnceBytes(threads));
    return static_cast<double>(bytes) + group <= static_cast<double>(memory) / 2;
}

}  // namespace

MergeReading readingOf(std::span<const MergePass> passes, const Batches& batches, std::uint64_t memory, int threads) {
    MergeReading all;
    all.ranges.resize(passes.size());
    for (const std::vector<std::vector<std::size_t>>& batch : batches) {
        for (std::size_t p = 0; p < passes.size(); ++p) {
            const MergeJob& job = passes[p].job;
            const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
            for (const std::size_t i : batch[p]) {
                InputReading read = inputReading(*job.method, job.config, job.models, job.tensors[i], alignment);
                if (passes.size() > 1)
                    read.reading = Reading::Repeated;
                else if (read.reading == Reading::Repeated &&
                         canBeKept(job.tensors[i], read, passes[p].outputs()[i].bytes(), memory, threads))
                    read.reading = Reading::Kept;
                const std::size_t begin = all.pieces.size();
                addTensor(job, job.tensors[i], read, all.pieces);
                all.ranges[p][job.tensors[i].name] = {begin, all.pieces.size()};
            }
        }
        all.ends.push_back(all.pieces.size());
    }
    return all;
}

}  // namespace aimerge
