#include "cli/merge_reading.h"

#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>

namespace aimerge {
namespace {

/// A stretch of every input, then the next one: as a tensor is merged.
void addTensor(const MergeJob& job, const MatchedTensor& tensor, const InputReading& read, Reading reading,
               std::vector<PieceAhead>& pieces) {
    std::vector<std::vector<PieceAhead>> ofInputs;
    std::size_t most = 0;
    for (const std::size_t input : read.inputs) {
        const MatchedInput& matched = tensor.inputs[input];
        ofInputs.push_back(job.models.models[matched.model].piecesOf(*matched.tensor, reading));
        most = std::max(most, ofInputs.back().size());
    }
    for (std::size_t i = 0; i < most; ++i)
        for (const std::vector<PieceAhead>& ofInput : ofInputs)
            if (i < ofInput.size()) pieces.push_back(ofInput[i]);
}

}  // namespace

MergeReading readingOf(std::span<const MergePass> passes,
                       const std::vector<std::vector<std::vector<std::size_t>>>& batches) {
    MergeReading all;
    all.ranges.resize(passes.size());
    for (const std::vector<std::vector<std::size_t>>& batch : batches) {
        for (std::size_t p = 0; p < passes.size(); ++p) {
            const MergeJob& job = passes[p].job;
            const VocabularyAlignment* alignment = job.vocabulary ? &*job.vocabulary : nullptr;
            for (const std::size_t i : batch[p]) {
                const InputReading read = inputReading(*job.method, job.config, job.models, job.tensors[i], alignment);
                const std::size_t begin = all.pieces.size();
                addTensor(job, job.tensors[i], read, passes.size() > 1 ? Reading::Repeated : read.reading, all.pieces);
                all.ranges[p][job.tensors[i].name] = {begin, all.pieces.size()};
            }
        }
        all.ends.push_back(all.pieces.size());
    }
    return all;
}

}  // namespace aimerge
