#pragma once
// How a config names a model.

#include "aimerge/config/yaml_document.h"

#include <string>

namespace aimerge {

/// A model as mergekit refers to it: text, {model: TEXT} or {model: {path: TEXT, revision: TEXT}}, which gives
/// "TEXT@REVISION".
std::string readModelReference(const YamlNode& node, const std::string& name);

}  // namespace aimerge
