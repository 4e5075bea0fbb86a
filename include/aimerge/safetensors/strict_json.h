#pragma once
// The small JSON files of a model folder (config.json, the index), read strictly: valid JSON as Python writes it, an object,
// no key twice.

#include "aimerge/core/error.h"
#include "aimerge/core/python_json.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace aimerge {

/// Far above what such files have, far below what a stack takes.
inline constexpr int kMaxJsonDepth = 64;

/// @tparam Json nlohmann::json, or nlohmann::ordered_json where the order is to be kept (its time grows with the square of
///         the number of keys in one object)
/// @throws InputError naming the file, and position or key
template <typename Json>
Json parseStrictJson(const std::string& text, const std::string& fileName) {
    std::vector<std::unordered_set<std::string>> keys;  // of the objects that are open
    const auto inspect = [&](int depth, typename Json::parse_event_t event, Json& value) {
        using Event = typename Json::parse_event_t;
        if (depth > kMaxJsonDepth) throw InputError("{}: is nested deeper than {} levels", fileName, kMaxJsonDepth);
        if (event == Event::object_start) keys.emplace_back();
        if (event == Event::object_end) keys.pop_back();
        if (event == Event::key && !keys.back().insert(value.template get<std::string>()).second)
            throw InputError("{}: the key \"{}\" is written twice in one object", fileName,
                             value.template get<std::string>());
        return true;
    };
    try {
        Json json = Json::parse(quoteNonFinite(text), inspect);
        restoreNonFinite(json);
        if (!json.is_object()) throw InputError("{}: holds {}, expected a JSON object", fileName, json.type_name());
        return json;
    } catch (const typename Json::parse_error& error) {
        throw InputError("{}: not valid JSON at byte {}; the file was probably cut short or edited by hand", fileName,
                         error.byte);
    } catch (const typename Json::out_of_range& error) {  // "[json.exception.out_of_range.406] number overflow parsing ..."
        const std::string_view what = error.what();
        throw InputError("{}: {}; expected numbers that fit a float64", fileName, what.substr(what.find("] ") + 2));
    }
}

}  // namespace aimerge
