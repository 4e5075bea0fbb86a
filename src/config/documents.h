#pragma once
// What the documents of one file have to do with each other.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// A document that others may use has a name that can be a folder's, and one result.
/// @throws UsageError
void checkUsableDocument(const MergeConfig& config);

/// @return the index of the only one without a name, if any
/// @throws UsageError when there are more, or two have the same name
std::optional<std::size_t> documentWithoutName(const std::vector<YamlNode>& documents,
                                               const std::vector<SourceMark>& begins);

bool isUsed(const std::string& documentName, const std::vector<MergeConfig>& documents);

/// @param documents all with names
/// @return the index of the one that no other uses; nullopt: they use each other in a circle
/// @throws UsageError for several of them
std::optional<std::size_t> unusedDocument(const std::vector<MergeConfig>& documents);

/// The documents so that each comes after those that it uses, otherwise as in the file; the result is the last. Each knows
/// what it uses, and has the text of those before its own.
/// @throws UsageError for those that use each other in a circle
std::vector<MergeConfig> inOrderOfUse(std::vector<MergeConfig> documents, std::size_t result);

}  // namespace aimerge
