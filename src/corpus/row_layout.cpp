#include "corpus/row_layout.h"

#include "aimerge/core/error.h"
#include "aimerge/core/python_json.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace aimerge {
namespace {

using nlohmann::json;
using Names = std::vector<std::string>;

/// Known without text_key; the first whose keys are all there.
const RowLayout kLayouts[] = {
    {{"text"}},
    {{"messages"}},
    {{"conversations"}},
    {{"conversation"}},
    {{"prompt", "completion"}},
    {{"instruction", "output"}, true},
};

bool hasAll(const Names& names, const Names& wanted) {
    return std::ranges::all_of(wanted, [&](const auto& key) { return std::ranges::find(names, key) != names.end(); });
}

std::string listed(const Names& names) {
    return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

InputError missingKey(const std::string& place, const std::string& key, const Names& names) {
    return InputError("{}: there is no key '{}' (the keys: {}); name the key of the text in calibration.text_key", place,
                      key, listed(names));
}

}  // namespace

Names RowLayout::columns() const {
    Names all = keys;
    for (const char* beside : {"input", "system", "tools"}) all.emplace_back(beside);
    return all;
}

RowLayout layoutOf(const Names& names, const Names& textKeys, const std::string& place) {
    for (const std::string& key : textKeys)
        if (!hasAll(names, {key})) throw missingKey(place, key, names);
    if (!textKeys.empty()) return {textKeys};
    for (const RowLayout& layout : kLayouts)
        if (hasAll(names, layout.keys)) return layout;
    throw InputError(
        "{}: its keys are {}, and none of the known layouts (text; messages; conversations; prompt and completion; "
        "instruction "
        "and output) has these; name the keys of the text in calibration.text_key",
        place, listed(names));
}

Names namesOf(const json& row) {
    Names names;
    for (const auto& [key, value] : row.items()) names.push_back(key);
    return names;
}

json parseRow(const std::string& row, const std::string& place) {
    json object;
    try {
        object = parsePythonJson<json>(row);
    } catch (const json::exception& error) {
        throw InputError("{}: not valid JSON: {}", place, error.what());
    }
    if (!object.is_object()) throw InputError("{}: not a JSON object", place);
    return object;
}

std::optional<std::string> plainTextOf(const json& row, const RowLayout& layout, const std::string& place) {
    std::string text;
    std::size_t lists = 0;
    for (const std::string& key : layout.keys) {
        const auto found = row.find(key);
        if (found == row.end()) throw missingKey(place, key, namesOf(row));
        if (found->is_array() && !layout.isInstruction) {
            ++lists;
        } else if (found->is_string()) {
            text += found->get_ref<const std::string&>();
        } else {
            throw InputError("{}: '{}' is {}, a text{} was expected", place, key, found->type_name(),
                             layout.isInstruction ? "" : " or a list of turns");
        }
    }
    if (lists != 0 && lists != layout.keys.size())
        throw InputError("{}: some of {} are texts and some lists of turns; expected one or the other", place,
                         listed(layout.keys));
    if (layout.isInstruction)
        if (const auto input = row.find("input"); input != row.end() && !input->is_string() && !input->is_null())
            throw InputError("{}: 'input' is {}, a text was expected", place, input->type_name());
    if (layout.isInstruction || lists > 0) return std::nullopt;
    return text;
}

}  // namespace aimerge
