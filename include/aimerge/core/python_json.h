#pragma once
// JSON as Python's json module writes it: NaN, Infinity and -Infinity stand for numbers that JSON itself cannot say. They
// are read as such numbers, and written back in the same words.

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <string_view>
#include <type_traits>

namespace aimerge {

/// The text with these three words, where they stand for values, as strings that no file has.
std::string quoteNonFinite(std::string_view text);
/// The reverse, of text that was written with nonFiniteText().
std::string unquoteNonFinite(std::string text);
/// The number of such a string; false for any other string.
bool nonFiniteNumber(const std::string& text, double& number);
std::string nonFiniteText(double number);

/// Numbers in place of what quoteNonFinite() made of them, at any depth.
template <typename Json>
void restoreNonFinite(Json& json) {
    double number = 0;
    if (json.is_string()) {
        if (nonFiniteNumber(json.template get_ref<const std::string&>(), number)) json = number;
    } else if (json.is_structured()) {
        for (auto& element : json) restoreNonFinite(element);
    }
}

/// @throws nlohmann::json::exception
template <typename Json>
Json parsePythonJson(std::string_view text) {
    Json json = Json::parse(quoteNonFinite(text));
    restoreNonFinite(json);
    return json;
}

/// Likewise; discarded where the text is not JSON.
template <typename Json>
Json tryParsePythonJson(std::string_view text) {
    Json json = Json::parse(quoteNonFinite(text), nullptr, false);
    restoreNonFinite(json);
    return json;
}

template <typename Json>
void quoteNumbers(Json& json) {
    if (json.is_number_float()) {
        const double number = json.template get<double>();
        if (!std::isfinite(number)) json = nonFiniteText(number);
    } else if (json.is_structured()) {
        for (auto& element : json) quoteNumbers(element);
    }
}

/// What `json.dump(indent)` gives, with these numbers in Python's words. Bytes that are no UTF-8 become U+FFFD.
template <typename Json>
std::string dumpPythonJson(Json json, int indent) {
    quoteNumbers(json);
    return unquoteNonFinite(json.dump(indent, ' ', false, Json::error_handler_t::replace));
}

}  // namespace aimerge
