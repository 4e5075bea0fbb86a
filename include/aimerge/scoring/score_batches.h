#pragma once
// The pass over a model that gives the log-probabilities of wanted tokens: batches of sequences,
// as a pipeline over the ranks.

#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/core/dtype.h"
#include "aimerge/core/progress.h"
#include "aimerge/device/device.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/distributed/world.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace aimerge {

/// Sequences that pass the model together, filled up to the longest at their ends, where nothing that counts can see it.
struct TokenBatch {
    std::int64_t length = 0;
    std::vector<std::size_t> sequences;  // indices
    std::vector<std::int32_t> ids;       // [sequences, length]
    std::vector<std::int64_t> rows;  // of every target, in the order of the sequences: row of the batch x length + position
    std::vector<std::int64_t> tokens;  // the wanted token of every target
};

/// The score of one wanted token.
struct TokenScore {
    float logProbability = 0;  // natural logarithm
    bool isGreedy = false;     // it is the first of the most probable tokens
};

/// What a pass found, and what it took this rank.
struct BatchScores {
    std::vector<TokenScore> tokens;  // on rank 0, in the order of the batches' targets; empty elsewhere
    double waitSeconds = 0;          // for the stages before and behind
    std::uint64_t bytesRead = 0;     // of weights
};

struct ScoringJob {
    const WeightSource& weights;
    Dtype computeDtype;
    const Plan& plan;                        // which layers each rank runs, and whether it streams them
    const std::vector<TokenBatch>& batches;  // the same on every rank
    int threads = 1;
    ProgressListener progress = {};
    void (*safePoint)() = nullptr;  // called between batches
    Device device = {};
};

/// Collective. Log-probabilities in float32 from logits in the compute dtype. Their bits do not depend on the number of
/// ranks. A rank that streams its layers keeps the hidden states of all batches.
/// @throws InputError what Decoder does; RuntimeFault, PeerFailed
BatchScores scoreBatches(World& world, const ScoringJob& job);

}  // namespace aimerge
