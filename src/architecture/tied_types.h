#pragma once
// Which model types take the embedding for the head when config.json does not say tie_word_embeddings: those whose
// configuration in transformers has it true by default.

#include <string_view>

namespace aimerge {

bool isTiedByDefault(std::string_view modelType);

}  // namespace aimerge
