#pragma once
// Calibration input: blocks of token ids of one length, from text that the base model's tokenizer encodes, or ready made.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/core/hash.h"

#include <cstdint>
#include <vector>

namespace aimerge {

/// Blocks of token ids, [blocks, length], row-major.
struct TokenBlocks {
    std::int64_t blocks = 0;
    std::int64_t length = 0;
    std::vector<std::int32_t> ids;
    std::int64_t unusedTokens = 0;  // of a text that is shorter than asked for: those that fill no block

    bool operator==(const TokenBlocks&) const = default;
};

/// Digest of the two dimensions and the ids.
Digest digestOf(const TokenBlocks& blocks);

/// Local; meant for rank 0. Encodes the corpus, or takes the blocks of an earlier run with the same corpus, tokenizer and
/// settings from the cache. With `tokenIds` the file decides the number and the length of the blocks: all are taken.
/// A corpus that is too short for `sequences` is used as far as it goes, with a warning. Sources with shares give their
/// parts of the sequences (of the lines), each packed by itself, and their blocks take turns.
/// @throws InputError: corpus or tokenizer missing, damaged or empty; with packing by lines, no block is filled; an id
///         outside the base model's vocabulary. RuntimeFault: the tokenizer process cannot be started.
TokenBlocks loadTokenBlocks(const CalibrationConfig& config, const Checkpoint& base);

}  // namespace aimerge
