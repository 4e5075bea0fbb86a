#pragma once
// A suite's sequences as batches for the model, and scores back in the suite's order.

#include "aimerge/evaluation/requests.h"
#include "aimerge/scoring/score_batches.h"

#include <cstdint>
#include <vector>

namespace aimerge {

/// In ascending order of length; a batch has about `tokensPerBatch` tokens. A function of the requests alone.
std::vector<TokenBatch> batchesOf(const std::vector<TokenSequence>& sequences, std::int64_t tokensPerBatch);

/// Collective. The root's, on every rank.
std::vector<TokenBatch> shareBatches(World& world, std::vector<TokenBatch> batches);

/// What scoreBatches() says of batchesOf(sequences), in the order of the sequences.
std::vector<TokenScore> inSequenceOrder(const std::vector<TokenSequence>& sequences, const std::vector<TokenBatch>& batches,
                                        const std::vector<TokenScore>& scores);

}  // namespace aimerge
