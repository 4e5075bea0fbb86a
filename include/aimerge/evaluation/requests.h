#pragma once
// What a model has to be asked for a suite's scores: sequences of token ids, and in them the tokens whose log-probability is
// wanted. Prepared once, used for any number of models with the same tokenizer. As lm-eval's hf backend does it: white space
// at a prompt's end moves to the continuation, both are encoded together and cut where the prompt's own tokens end, an empty
// prompt becomes the BOS token (else the EOS token), and what is longer than the model's positions loses tokens on the left.

#include "aimerge/evaluation/suite.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

class Checkpoint;

/// ln p(token | ids[0 ... position]).
struct TokenTarget {
    std::int32_t position = 0, token = 0;
};

struct TokenSequence {
    std::vector<std::int32_t> ids;
    std::vector<TokenTarget> targets;
};

/// The number of each sequence's first target, all targets numbered sequence after sequence; at the end how many there are.
std::vector<std::size_t> firstTargets(const std::vector<TokenSequence>& sequences);

/// Targets that belong together: those of a continuation, of a choice, of a block of a text.
struct TargetRun {
    std::size_t item = 0, continuation = 0;
    std::size_t sequence = 0, first = 0, count = 0;  // targets [first, first + count) of the sequence
};

struct EvaluationRequests {
    std::vector<SuiteItem> items;
    std::vector<TargetRun> runs;  // in the order of the items
    std::vector<TokenSequence> sequences;

    std::int64_t tokens() const;
};

struct RequestSettings {
    /// Texts are scored in blocks of so many tokens, each on its own; what is left over at the end is not scored. A
    /// shorter text is one block.
    std::int64_t blockLength = 256;
};

/// Local; meant for rank 0. @param model whose tokenizer encodes and whose config.json gives positions and special tokens
/// @throws InputError: no tokenizer, a text of less than two tokens, an id outside the vocabulary, a continuation without
///         tokens or longer than the model's positions
EvaluationRequests prepareRequests(std::vector<SuiteItem> items, const Checkpoint& model, const RequestSettings& settings);

}  // namespace aimerge
