#pragma once
// The keys that say how the vocabularies of the models are brought together: tokenizer_source, or tokenizer, and
// unsafe_truncate_embeddings.

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/merge_config.h"

namespace aimerge {

/// @param unread as MappingReader's
VocabularyConfig readVocabulary(const MappingReader& file, UnreadKeys& unread);

}  // namespace aimerge
