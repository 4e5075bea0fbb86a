#pragma once
// How encoded documents become blocks. Documents are encoded as they are needed and no further.

#include "aimerge/corpus/token_blocks.h"
#include "aimerge/corpus/tokenizer.h"
#include "corpus/corpus.h"

#include <cstddef>
#include <string>
#include <vector>

namespace aimerge {

struct PackingRequest {
    const Corpus& corpus;
    std::vector<std::size_t> order;  // in which documents are taken
    std::int64_t sequences = 0;
    std::int64_t sequenceLength = 0;
    std::string corpusName;  // for messages
};

/// Packing::Stream: the documents' tokens concatenated, cut into `sequences` blocks, or into as many as they fill; fewer
/// tokens than one block has are one shorter block.
/// @throws InputError when there is no token
TokenBlocks packStream(const PackingRequest& request, Tokenizer& tokenizer);

/// Packing::Lines, as in the AIM authors' code: each document (of texts, not of conversations) without white space at its
/// ends; those of more than sequenceLength tokens, or of none, are skipped; the first `sequences` others are concatenated
/// and cut, the remainder dropped.
/// @throws InputError when they do not fill one block
TokenBlocks packLines(const PackingRequest& request, Tokenizer& tokenizer);

}  // namespace aimerge
