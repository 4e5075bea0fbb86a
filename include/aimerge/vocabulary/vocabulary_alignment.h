#pragma once
// Brings vocabularies that differ between the inputs to one: which tokens the output has, and from which rows every input's
// embedding and head are put together before the merge. docs/methods.md has the rules. Pure: no tensor is read here.

#include "aimerge/config/merge_config.h"
#include "aimerge/safetensors/safetensors.h"
#include "aimerge/vocabulary/row_map.h"
#include "aimerge/vocabulary/vocabulary.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

struct VocabularyInput {
    std::string model;                       // as the config names it
    Shape shape;                             // of its vocabulary tensors, [rows, columns]
    const Vocabulary* vocabulary = nullptr;  // may be null without tokenizer settings (VocabularySource::None)

    std::int64_t rows() const { return shape.at(0); }
};

/// Which tokenizer files go with the output, and how they change.
struct OutputTokenizer {
    std::size_t input = 0;                 // the model whose files they are
    std::optional<std::int64_t> dropFrom;  // tokens with ids from here on have no row and leave the files
    std::vector<Token> newTokens = {};     // join the added tokens, with these ids
    std::vector<Token> marked = {};        // of its trained vocabulary: become added tokens, too, with the ids they have
    bool ownTokensFirst = false;           // its added tokens are not normalised: ordinary tokens among the new ones are

    bool unchanged() const { return !dropFrom && newTokens.empty() && marked.empty(); }
};

struct VocabularyAlignment {
    std::int64_t rows = 0;     // of every vocabulary tensor of the output, padding included: config.vocab_size
    std::vector<RowMap> maps;  // one per input, in their order
    OutputTokenizer tokenizer;

    /// True when every input's tensors are taken row by row as they are (at most cut at the end).
    bool isIdentity() const;
};

/// What becomes of vocabularies of different size when the config has no tokenizer settings.
enum class UnequalVocabularies {
    Refused,
    PaddedToLargest  // row t is the same token in all inputs; rows that an input lacks are the mean of those it has
};

/// Ids of the output vocabulary that no token names (holes of a tokenizer) take that tokenizer's model's row in every input.
///
/// @param inputs in the order of the config; @param baseIndex of base_model, or of the first model where there is no base
/// @param tensor a vocabulary tensor's name, for messages
/// @param unequal what the merge method makes of them; settings in the config come first
/// @throws InputError: sizes differ and no setting says what to do (names tensor, shapes and the keys that solve it),
///         columns differ, a tokenizer is missing, an override asks for a token that its model has not
/// @throws UsageError: a setting names a model that is not an input
VocabularyAlignment alignVocabularies(const std::vector<VocabularyInput>& inputs, std::size_t baseIndex,
                                      const VocabularyConfig& config, const std::string& tensor,
                                      UnequalVocabularies unequal = UnequalVocabularies::Refused);

}  // namespace aimerge
