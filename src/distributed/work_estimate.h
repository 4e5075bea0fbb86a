#pragma once
// What the parts of a model cost, from shapes alone: the embedding, each layer, the end (final norm and lm_head), and the
// tensors that belong to none of them.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/distributed/plan.h"

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

struct Work {
    std::vector<std::string> tensors;                 // to be merged
    std::uint64_t bytesToRead = 0, bytesToWrite = 0;  // of the merge
    std::uint64_t weightBytes = 0;                    // what calibration holds, in the compute dtype
    std::uint64_t calibrationBytesToRead = 0;         // the same, as it is stored
    std::uint64_t statisticsBytes = 0;                // sums of a calibration, of one part of the corpus
    double calibrationFlops = 0;

    void add(const Work& other);
};

struct ModelWork {
    Work embedding, end;
    std::vector<Work> layers;
    std::vector<Work> others;  // one per tensor
};

/// Calibration computes no logits and looks embeddings up row by row, so it holds neither the embedding nor lm_head. Its
/// FLOPs per token are 2 per element of a layer's matrices, and 4 per attended position and channel of the heads; positions
/// attend to (length + 1) / 2 others on average.
ModelWork workOf(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings);

/// What the merge does for each tensor of the output, in model order.
std::vector<Work> mergeWorks(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings);

/// Estimated time on one rank. Only the proportion of the hardware's two rates matters for the balance.
double estimatedSeconds(const Work& work, const Hardware& hardware);

}  // namespace aimerge
