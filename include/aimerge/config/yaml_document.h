#pragma once
// A YAML text as a tree of plain values that carry their place. yaml-cpp parses; this adds what it lets pass: duplicate
// keys, aliases to themselves, unknown tags. Aliases and merge keys (`<<`) are expanded.

#include "aimerge/config/parameter.h"

#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct YamlEntry;

struct YamlNode {
    enum class Kind { Null, Scalar, Sequence, Mapping } kind = Kind::Null;
    std::string text;                // Scalar
    bool quoted = false;             // Scalar: written in quotes or as a block
    std::vector<YamlNode> items;     // Sequence
    std::vector<YamlEntry> entries;  // Mapping, in file order, keys distinct
    SourceMark mark;

    YamlEntry* find(std::string_view key);
    const YamlEntry* find(std::string_view key) const;
};

struct YamlEntry {
    std::string key;
    SourceMark mark;  // of the key
    YamlNode value;
};

/// "a mapping", "a list", "nothing" or the quoted text, for messages of the form "expected ..., found ...".
std::string describe(const YamlNode& node);

/// One document of a YAML text, from its line `---` to before that of the next.
struct YamlText {
    std::string text;
    int firstLine = 1;  // in the file
};

/// The documents in their order; together they are the text. Comments and directives before the first `---` are the first's.
std::vector<YamlText> splitDocuments(const std::string& text);

/// @throws UsageError "merge.yaml:3:5: not valid YAML: ...". An empty document gives a Null node.
YamlNode parseYaml(const YamlText& document, const std::string& fileName);

/// As parseYaml(), from the value of an override: every mark is `place`.
YamlNode parseYamlValue(const std::string& text, const SourceMark& place);

std::string writeYaml(const YamlNode& root);

}  // namespace aimerge
