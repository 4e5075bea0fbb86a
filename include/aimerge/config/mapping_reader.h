#pragma once
// Reads one mapping of a config: refuses unknown keys with the nearest known one, or lists them, and gives typed
// values. A key without a value (`dtype:` or `dtype: null`) counts as absent. Every message begins with the
// place and names the key in full.

#include "aimerge/config/unread_key.h"
#include "aimerge/config/yaml_document.h"
#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aimerge {

/// The scalar's text. @throws UsageError "...: NAME must be EXPECTED, found a list"
const std::string& scalarText(const YamlNode& node, std::string_view name, std::string_view expected);
double numberOf(const YamlNode& node, std::string_view name);
/// A text, or a list of texts, none empty. @throws UsageError naming what else it is
std::vector<std::string> textsOf(const YamlNode& node, std::string_view name);

class MappingReader {
public:
    /// @param name "aim.calibration"; empty for the whole file
    /// @param unread where mergekit would ignore a key that is not known: takes it. Null: such a key is an error
    /// @throws UsageError when the node is no mapping or has a key that is not known, or with `unread` a slip of a known one
    MappingReader(const YamlNode& node, std::string name, const std::vector<std::string>& knownKeys,
                  UnreadKeys* unread = nullptr);

    /// nullptr when the key is absent or has no value.
    const YamlEntry* find(std::string_view key) const;
    /// The key as messages name it: "aim.omega".
    std::string nameOf(std::string_view key) const;

    std::optional<std::string> text(std::string_view key) const;  // not empty
    std::optional<bool> boolean(std::string_view key) const;
    std::optional<std::int64_t> wholeNumber(std::string_view key, std::int64_t minimum) const;
    std::optional<std::uint64_t> naturalNumber(std::string_view key) const;
    std::optional<double> number(std::string_view key, double minimum, double maximum) const;

    template <typename Value>
    std::optional<Value> choice(std::string_view key, const std::vector<std::pair<std::string, Value>>& choices) const {
        const YamlEntry* entry = find(key);
        if (entry == nullptr) return std::nullopt;
        std::vector<std::string> names;
        for (const auto& [name, value] : choices) names.push_back(name);
        const std::size_t chosen = indexOfChoice(*entry, names);
        return choices[chosen].second;
    }

private:
    std::size_t indexOfChoice(const YamlEntry& entry, const std::vector<std::string>& names) const;

    const YamlNode& node_;
    std::string name_;
};

}  // namespace aimerge
