#pragma once
// What the documents of one file have to do with each other.

#include "aimerge/config/merge_config.h"

#include <vector>

namespace aimerge {

/// A document that others follow has a name that can be a folder's, and one result.
/// @param begin where the document begins
/// @throws UsageError
void checkEarlierDocument(const MergeConfig& config, const SourceMark& begin);

/// Finds what each document uses, and puts its text after theirs.
/// @throws UsageError for a name that two documents have
void linkDocuments(std::vector<MergeConfig>& documents);

}  // namespace aimerge
