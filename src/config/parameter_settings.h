#pragma once
// `parameters:` of the file or of one model, in mergekit's forms: a scalar, a gradient (list of scalars), a mapping
// {filter, value} or a list of such mappings.

#include "aimerge/config/merge_config.h"
#include "aimerge/config/yaml_document.h"

#include <string>

namespace aimerge {

/// @param name "aim.omega"
/// @param unread as MappingReader's
ParameterSetting readSetting(const YamlNode& node, const std::string& name, UnreadKeys* unread = nullptr);

/// True for the forms that may have a filter: a mapping, or a list of mappings.
bool isConditional(const YamlNode& node);

/// @param name "parameters" or "models[1].parameters"; which parameter names exist is the merge method's business
/// @param unread takes keys of the config that are written here
ParameterMap readParameters(const YamlNode& node, const std::string& name, UnreadKeys& unread);

}  // namespace aimerge
