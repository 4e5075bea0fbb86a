#pragma once
// Shorthand of the config tests: parse a text as the file "merge.yaml".

#include "aimerge/config/merge_config.h"

#include <string>
#include <vector>

namespace aimerge {

inline MergeConfig parsed(const std::string& text, const std::vector<std::string>& overrides = {},
                          ConfigUse use = ConfigUse::Merge) {
    return parseMergeConfig(text, "merge.yaml", overrides, use);
}

/// A complete config, to which a test adds its lines; it has three lines.
inline const std::string kThreeLines =
    "merge_method: ties\n"
    "base_model: base\n"
    "models: [{model: a}, {model: b}]\n";

}  // namespace aimerge
