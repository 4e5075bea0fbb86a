#pragma once
// Which unknown keys are errors, because the result would not be what their author expects.

#include "aimerge/config/unread_key.h"
#include "aimerge/config/yaml_document.h"

#include <string_view>

namespace aimerge {

/// True for a key of a config that has no business among a method's parameters, whatever the method.
bool isKeyOfConfig(std::string_view key);

/// An unknown key. @param name of the mapping: "models[1]"; empty: the file
/// @throws UsageError when it is a slip of one of `known`, or was given by --set
void noteUnread(const YamlEntry& entry, const std::string& name, const std::vector<std::string>& known, UnreadKeys& unread);

/// @throws UsageError for a key that has an effect elsewhere, unless it repeats what `file` says at the top level
void refuseMisplaced(const YamlNode& file, const UnreadKeys& unread);

}  // namespace aimerge
