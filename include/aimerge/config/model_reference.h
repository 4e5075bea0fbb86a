#pragma once
// How a config names a model.

#include "aimerge/config/unread_key.h"
#include "aimerge/config/yaml_document.h"

#include <string>

namespace aimerge {

/// A model as mergekit refers to it: text, {model: TEXT} or {model: {path: TEXT, revision: TEXT}}, which gives
/// "TEXT@REVISION"; with `lora` beside `model`, in the same forms, "MODEL+LORA".
/// @param unread as MappingReader's
std::string readModelReference(const YamlNode& node, const std::string& name, UnreadKeys* unread = nullptr);

}  // namespace aimerge
