#include "aimerge/config/mapping_reader.h"

#include "config/misplaced_keys.h"
#include "config/scalar_text.h"

namespace aimerge {
namespace {

std::string suggestion(std::string_view word, const std::vector<std::string>& names) {
    const std::string nearest = nearestName(word, names);
    return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

}  // namespace

const std::string& scalarText(const YamlNode& node, std::string_view name, std::string_view expected) {
    if (node.kind != YamlNode::Kind::Scalar)
        throw UsageError("{}: {} must be {}, found {}", node.mark.text(), name, expected, describe(node));
    return node.text;
}

double numberOf(const YamlNode& node, std::string_view name) {
    const std::string& text = scalarText(node, name, "a number");
    const auto number = numberFromText(text);
    if (!number) throw UsageError("{}: {} must be a finite number, found '{}'", node.mark.text(), name, text);
    return *number;
}

std::vector<std::string> textsOf(const YamlNode& node, std::string_view name) {
    const bool isList = node.kind == YamlNode::Kind::Sequence;
    std::vector<std::string> texts;
    if (!isList) texts.push_back(scalarText(node, name, "a text or a list of texts"));
    if (isList)
        for (const YamlNode& item : node.items) texts.push_back(scalarText(item, name, "a list of texts"));
    if (texts.empty() || std::ranges::find(texts, "") != texts.end())
        throw UsageError("{}: {} must be a text or a list of texts, and none empty", node.mark.text(), name);
    return texts;
}

MappingReader::MappingReader(const YamlNode& node, std::string name, const std::vector<std::string>& knownKeys,
                             UnreadKeys* unread)
    : node_(node), name_(std::move(name)) {
    if (node.kind != YamlNode::Kind::Mapping)
        throw UsageError("{}: {} must be a mapping with the keys {}, found {}", node.mark.text(),
                         name_.empty() ? "the file" : name_, fmt::join(knownKeys, ", "), describe(node));
    for (const YamlEntry& entry : node.entries) {
        if (std::find(knownKeys.begin(), knownKeys.end(), entry.key) != knownKeys.end()) continue;
        if (unread != nullptr) {
            noteUnread(entry, name_, knownKeys, *unread);
            continue;
        }
        throw UsageError("{}: unknown key '{}' {}{} (known keys: {})", entry.mark.text(), entry.key,
                         name_.empty() ? "at the top level" : "in " + name_, suggestion(entry.key, knownKeys),
                         fmt::join(knownKeys, ", "));
    }
}

const YamlEntry* MappingReader::find(std::string_view key) const {
    const YamlEntry* entry = node_.find(key);
    return entry == nullptr || entry->value.kind == YamlNode::Kind::Null ? nullptr : entry;
}

std::string MappingReader::nameOf(std::string_view key) const {
    return name_.empty() ? std::string(key) : fmt::format("{}.{}", name_, key);
}

std::optional<std::string> MappingReader::text(std::string_view key) const {
    const YamlEntry* entry = find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string& text = scalarText(entry->value, nameOf(key), "text");
    if (text.empty()) throw UsageError("{}: {} is an empty text", entry->value.mark.text(), nameOf(key));
    return text;
}

std::optional<bool> MappingReader::boolean(std::string_view key) const {
    const YamlEntry* entry = find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string& text = scalarText(entry->value, nameOf(key), "true or false");
    const auto value = booleanFromText(text);
    if (!value) throw UsageError("{}: {} must be true or false, found '{}'", entry->value.mark.text(), nameOf(key), text);
    return value;
}

std::optional<std::int64_t> MappingReader::wholeNumber(std::string_view key, std::int64_t minimum) const {
    const YamlEntry* entry = find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string& text = scalarText(entry->value, nameOf(key), "a whole number");
    const auto value = wholeNumberFromText(text);
    if (!value || *value < minimum)
        throw UsageError("{}: {} must be a whole number of at least {}, found '{}'", entry->value.mark.text(), nameOf(key),
                         minimum, text);
    return value;
}

std::optional<std::uint64_t> MappingReader::naturalNumber(std::string_view key) const {
    const YamlEntry* entry = find(key);
    if (entry == nullptr) return std::nullopt;
    const std::string& text = scalarText(entry->value, nameOf(key), "a whole number");
    const auto value = naturalNumberFromText(text);
    if (!value)
        throw UsageError("{}: {} must be a whole number from 0 to 2^64 - 1, found '{}'", entry->value.mark.text(),
                         nameOf(key), text);
    return value;
}

std::optional<double> MappingReader::number(std::string_view key, double minimum, double maximum) const {
    const YamlEntry* entry = find(key);
    if (entry == nullptr) return std::nullopt;
    const double value = numberOf(entry->value, nameOf(key));
    if (value >= minimum && value <= maximum) return value;
    const bool isBounded = maximum < std::numeric_limits<double>::max();
    throw UsageError("{}: {} must be a number of at least {}{}, found '{}'", entry->value.mark.text(), nameOf(key), minimum,
                     isBounded ? fmt::format(" and at most {}", maximum) : "", entry->value.text);
}

std::size_t MappingReader::indexOfChoice(const YamlEntry& entry, const std::vector<std::string>& names) const {
    const std::string& text = scalarText(entry.value, nameOf(entry.key), fmt::format("one of {}", fmt::join(names, ", ")));
    const auto name = std::find(names.begin(), names.end(), text);
    if (name == names.end())
        throw UsageError("{}: {} must be one of {}, found '{}'{}", entry.value.mark.text(), nameOf(entry.key),
                         fmt::join(names, ", "), text, suggestion(text, names));
    return static_cast<std::size_t>(name - names.begin());
}

}  // namespace aimerge
