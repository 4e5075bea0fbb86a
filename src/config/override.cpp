#include "aimerge/config/override.h"

#include "aimerge/core/error.h"
#include "config/scalar_text.h"

#include <algorithm>

namespace aimerge {
namespace {

YamlNode& itemOf(YamlNode& list, const std::string& step, const std::string& walked, const SourceMark& place) {
    const auto index = naturalNumberFromText(step);
    if (!index || *index >= list.items.size())
        throw UsageError("{}: {} is a list of {} items; name one by its number from 0, not '{}'", place.text(), walked,
                         list.items.size(), step);
    return list.items[*index];
}

YamlNode& valueOf(YamlNode& mapping, const std::string& step, const SourceMark& place) {
    if (mapping.kind == YamlNode::Kind::Null) mapping.kind = YamlNode::Kind::Mapping;
    if (YamlEntry* entry = mapping.find(step)) return entry->value;
    YamlEntry& added = mapping.entries.emplace_back();
    added.key = step;
    added.mark = added.value.mark = place;
    return added.value;
}

}  // namespace

void applyOverride(YamlNode& root, const std::string& override) {
    const SourceMark place{.file = "--set " + override};
    const std::size_t equals = override.find('=');
    const std::string path = override.substr(0, equals);
    if (equals == std::string::npos || path.empty() || path.front() == '.' || path.back() == '.' ||
        path.find("..") != std::string::npos)
        throw UsageError("{}: expected path.to.key=value, for example --set aim.omega=0.4", place.text());

    YamlNode* node = &root;
    std::string walked;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find('.', begin), path.size());
        const std::string step = path.substr(begin, end - begin);
        if (node->kind == YamlNode::Kind::Scalar)
            throw UsageError("{}: {} is '{}', it has no '{}' in it", place.text(), walked, node->text, step);
        node = node->kind == YamlNode::Kind::Sequence ? &itemOf(*node, step, walked, place) : &valueOf(*node, step, place);
        walked = path.substr(0, end);
        begin = end + 1;
    }
    *node = parseYamlValue(override.substr(equals + 1), place);
}

}  // namespace aimerge
