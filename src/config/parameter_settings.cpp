#include "config/parameter_settings.h"

#include "aimerge/config/mapping_reader.h"
#include "config/misplaced_keys.h"

namespace aimerge {
namespace {

Scalar scalarOf(const YamlNode& node, const std::string& name) {
    return {.text = scalarText(node, name, "a number, true or false"), .mark = node.mark};
}

std::vector<Scalar> scalarOrGradient(const YamlNode& node, const std::string& name) {
    if (node.kind != YamlNode::Kind::Sequence) return {scalarOf(node, name)};
    std::vector<Scalar> gradient;
    for (const YamlNode& item : node.items) gradient.push_back(scalarOf(item, "every value of the gradient " + name));
    return gradient;
}

ConditionalValue conditionOf(const YamlNode& node, const std::string& name, UnreadKeys* unread) {
    const MappingReader reader(node, name, {"filter", "value"}, unread);
    const YamlEntry* value = reader.find("value");
    if (value == nullptr) throw UsageError("{}: {} needs a 'value'", node.mark.text(), name);
    ConditionalValue condition{.filter = "", .values = scalarOrGradient(value->value, name)};
    if (const YamlEntry* filter = reader.find("filter"))
        condition.filter = scalarText(filter->value, reader.nameOf("filter"), "text");
    if (condition.values.empty()) throw UsageError("{}: {}.value is an empty list", value->value.mark.text(), name);
    return condition;
}

}  // namespace

bool isConditional(const YamlNode& node) {
    const bool isList = node.kind == YamlNode::Kind::Sequence && !node.items.empty();
    return (isList ? node.items[0] : node).kind == YamlNode::Kind::Mapping;
}

ParameterSetting readSetting(const YamlNode& node, const std::string& name, UnreadKeys* unread) {
    ParameterSetting setting{.conditions = {}, .mark = node.mark, .name = name};
    if (node.kind == YamlNode::Kind::Null) return setting;
    if (node.kind == YamlNode::Kind::Mapping) {
        setting.conditions.push_back(conditionOf(node, name, unread));
    } else if (isConditional(node)) {
        for (std::size_t i = 0; i < node.items.size(); ++i)
            setting.conditions.push_back(conditionOf(node.items[i], fmt::format("{}[{}]", name, i), unread));
    } else if (std::vector<Scalar> values = scalarOrGradient(node, name); !values.empty()) {
        setting.conditions.push_back({.filter = "", .values = std::move(values)});
    }
    return setting;
}

ParameterMap readParameters(const YamlNode& node, const std::string& name, UnreadKeys& unread) {
    ParameterMap parameters;
    if (node.kind == YamlNode::Kind::Null) return parameters;
    if (node.kind != YamlNode::Kind::Mapping)
        throw UsageError("{}: {} must be a mapping from parameter names to values, found {}", node.mark.text(), name,
                         describe(node));
    for (const YamlEntry& entry : node.entries) {
        if (isKeyOfConfig(entry.key) || entry.key.starts_with("x-"))
            noteUnread(entry, name, {}, unread);
        else
            parameters.emplace(entry.key, readSetting(entry.value, fmt::format("{}.{}", name, entry.key), &unread));
    }
    return parameters;
}

}  // namespace aimerge
