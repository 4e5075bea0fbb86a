#include "aimerge/config/yaml_document.h"

#include "aimerge/core/error.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <sstream>

namespace aimerge {
namespace {

constexpr int kDeepestNesting = 50;
constexpr std::string_view kBlank = " \t\r\n";
constexpr int kMostNodes = 100'000;  // aliases of aliases grow exponentially

/// Copies a yaml-cpp tree, checking it on the way.
class TreeBuilder {
public:
    /// @param place where line 0, every node's mark; else the file, completed by each node's line and column
    explicit TreeBuilder(const SourceMark& place, bool marksOfNodes) : place_(place), marksOfNodes_(marksOfNodes) {}

    SourceMark markOf(const YAML::Mark& mark) const {
        if (!marksOfNodes_ || mark.is_null()) return place_;
        return {.file = place_.file, .line = mark.line + 1, .column = mark.column + 1};
    }

    YamlNode build(const YAML::Node& node, int nesting) {
        const SourceMark mark = markOf(node.Mark());
        if (nesting > kDeepestNesting)
            throw UsageError("{}: nested deeper than {} levels, or an alias that contains itself", mark.text(),
                             kDeepestNesting);
        if (++nodes_ > kMostNodes)
            throw UsageError("{}: more than {} values after expanding the aliases", mark.text(), kMostNodes);
        YamlNode result;
        result.mark = mark;
        switch (node.Type()) {
            case YAML::NodeType::Undefined:
            case YAML::NodeType::Null:
                break;
            case YAML::NodeType::Scalar:
                result.kind = YamlNode::Kind::Scalar;
                result.text = node.Scalar();
                result.quoted = node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str";
                checkTag(node.Tag(), mark);
                break;
            case YAML::NodeType::Sequence:
                result.kind = YamlNode::Kind::Sequence;
                for (const YAML::Node& item : node) result.items.push_back(build(item, nesting + 1));
                break;
            case YAML::NodeType::Map:
                result.kind = YamlNode::Kind::Mapping;
                buildEntries(node, nesting, result);
                break;
        }
        return result;
    }

private:
    static void checkTag(const std::string& tag, const SourceMark& mark) {
        static const std::array<std::string, 7> kPlainTags{"",
                                                           "?",
                                                           "!",
                                                           "tag:yaml.org,2002:str",
                                                           "tag:yaml.org,2002:int",
                                                           "tag:yaml.org,2002:float",
                                                           "tag:yaml.org,2002:bool"};
        if (std::find(kPlainTags.begin(), kPlainTags.end(), tag) == kPlainTags.end())
            throw UsageError("{}: the tag '{}' has no meaning here; remove it", mark.text(), tag);
    }

    void buildEntries(const YAML::Node& node, int nesting, YamlNode& mapping) {
        std::vector<YamlNode> merged;  // values of `<<`
        for (const auto& pair : node) {
            const SourceMark mark = markOf(pair.first.Mark());
            if (!pair.first.IsScalar()) throw UsageError("{}: a key must be plain text", mark.text());
            YamlEntry entry{.key = pair.first.Scalar(), .mark = mark, .value = build(pair.second, nesting + 1)};
            if (entry.key == "<<" && pair.first.Tag() == "?") {
                merged.push_back(std::move(entry.value));
                continue;
            }
            if (const YamlEntry* first = mapping.find(entry.key))
                throw UsageError("{}: the key '{}' is written twice in one mapping, first in line {}", mark.text(),
                                 entry.key, first->mark.line);
            // The place of a value that is not there is that of its key, not of the next thing in the file.
            if (entry.value.kind == YamlNode::Kind::Null) entry.value.mark = mark;
            mapping.entries.push_back(std::move(entry));
        }
        for (const YamlNode& source : merged) mergeInto(mapping, source);
    }

    /// The merge key of YAML 1.1: entries of one mapping or of a list of them, for keys that are not yet there.
    static void mergeInto(YamlNode& mapping, const YamlNode& source) {
        if (source.kind == YamlNode::Kind::Sequence) {
            for (const YamlNode& item : source.items) mergeInto(mapping, item);
            return;
        }
        if (source.kind != YamlNode::Kind::Mapping)
            throw UsageError("{}: '<<' merges a mapping or a list of mappings, found {}", source.mark.text(),
                             describe(source));
        for (const YamlEntry& entry : source.entries)
            if (mapping.find(entry.key) == nullptr) mapping.entries.push_back(entry);
    }

    SourceMark place_;
    bool marksOfNodes_;
    int nodes_ = 0;
};

/// The place of a tab in the indentation of a line (1-based), the usual cause of a syntax error there; 0 = none.
int columnOfIndentingTab(const std::string& text, int line) {
    std::istringstream lines(text);
    std::string current;
    for (int i = 0; i < line; ++i) std::getline(lines, current);
    const std::size_t content = current.find_first_not_of(" \t");
    const std::size_t tab = current.find('\t');
    return tab != std::string::npos && (content == std::string::npos || tab < content) ? static_cast<int>(tab) + 1 : 0;
}

/// Where the documents of a text begin; of each nothing else.
class DocumentStarts : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override { marks.push_back(mark); }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
    void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnSequenceEnd() override {}
    void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnMapEnd() override {}

    std::vector<YAML::Mark> marks;
};

/// False for a text without any. YAML::LoadAll finds documents without end in a text such as ",".
bool holdsDocument(const std::string& text, const TreeBuilder& builder) {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStarts starts;
    if (!parser.HandleNextDocument(starts)) return false;
    if (!parser.HandleNextDocument(starts)) return true;
    const YAML::Mark &first = starts.marks.front(), &second = starts.marks.back();
    const std::string mark = builder.markOf(second).text();
    if (first.pos == second.pos)
        throw UsageError("{}: not valid YAML: nothing begins with '{}'", mark, text[static_cast<std::size_t>(second.pos)]);
    throw UsageError("{}: another YAML document begins after '...'; begin it with a line '---'", mark);
}

YamlNode parse(const std::string& text, const SourceMark& place, bool marksOfNodes) {
    TreeBuilder builder(place, marksOfNodes);
    try {
        if (!holdsDocument(text, builder)) {
            YamlNode nothing;
            nothing.mark = place;
            return nothing;
        }
        return builder.build(YAML::Load(text), 0);
    } catch (const YAML::DeepRecursion& error) {
        throw UsageError("{}: not valid YAML: nested too deeply", builder.markOf(error.mark).text());
    } catch (const YAML::Exception& error) {
        SourceMark mark = builder.markOf(error.mark);
        if (const int column = columnOfIndentingTab(text, mark.line); column > 0) {
            mark.column = column;
            throw UsageError("{}: not valid YAML: a tab in the indentation; use blanks", mark.text());
        }
        throw UsageError("{}: not valid YAML: {}", mark.text(), error.msg);
    }
}

bool beginsDocument(std::string_view line) {
    return line.starts_with("---") && (line.size() == 3 || kBlank.find(line[3]) != std::string_view::npos);
}

/// Blank, a comment or a directive.
bool holdsNoValue(std::string_view line) {
    const std::size_t content = line.find_first_not_of(kBlank);
    return content == std::string_view::npos || line[content] == '#' || line.front() == '%';
}

void write(YAML::Emitter& out, const YamlNode& node) {
    switch (node.kind) {
        case YamlNode::Kind::Null:
            out << YAML::Null;
            break;
        case YamlNode::Kind::Scalar:
            if (node.quoted) out << YAML::DoubleQuoted;
            out << node.text;
            break;
        case YamlNode::Kind::Sequence:
            out << YAML::BeginSeq;
            for (const YamlNode& item : node.items) write(out, item);
            out << YAML::EndSeq;
            break;
        case YamlNode::Kind::Mapping:
            out << YAML::BeginMap;
            for (const YamlEntry& entry : node.entries) {
                out << YAML::Key << entry.key << YAML::Value;
                write(out, entry.value);
            }
            out << YAML::EndMap;
            break;
    }
}

}  // namespace

const YamlEntry* YamlNode::find(std::string_view key) const {
    const auto entry =
        std::find_if(entries.begin(), entries.end(), [&](const YamlEntry& candidate) { return candidate.key == key; });
    return entry == entries.end() ? nullptr : &*entry;
}

YamlEntry* YamlNode::find(std::string_view key) {
    return const_cast<YamlEntry*>(static_cast<const YamlNode*>(this)->find(key));
}

std::string describe(const YamlNode& node) {
    switch (node.kind) {
        case YamlNode::Kind::Null:
            return "nothing";
        case YamlNode::Kind::Scalar:
            return fmt::format("'{}'", node.text);
        case YamlNode::Kind::Sequence:
            return "a list";
        case YamlNode::Kind::Mapping:
            return "a mapping";
    }
    return {};
}

std::vector<YamlText> splitDocuments(const std::string& text) {
    std::vector<YamlText> documents(1);
    bool nothingYet = true;  // before the first document
    int line = 1;
    for (std::size_t begin = 0; begin < text.size(); ++line) {
        const std::size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
        const std::string_view current = std::string_view(text).substr(begin, end - begin);
        if (beginsDocument(current)) {
            if (!nothingYet) documents.push_back({.text = {}, .firstLine = line});
            nothingYet = false;
        }
        nothingYet = nothingYet && holdsNoValue(current);
        documents.back().text += current;
        begin = end;
    }
    return documents;
}

YamlNode parseYaml(const YamlText& document, const std::string& fileName) {
    // Empty lines stand for the documents before this one, so that yaml-cpp counts as the file does.
    const std::string linesBefore(static_cast<std::size_t>(document.firstLine - 1), '\n');
    return parse(linesBefore + document.text, {.file = fileName}, true);
}

YamlNode parseYamlValue(const std::string& text, const SourceMark& place) {
    return parse(text, place, false);
}

std::string writeYaml(const YamlNode& root) {
    YAML::Emitter out;
    write(out, root);
    return std::string(out.c_str()) + "\n";
}

}  // namespace aimerge
