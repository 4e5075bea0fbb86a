#include "config/scalar_text.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <string>

namespace aimerge {
namespace {

template <typename Number>
std::optional<Number> wholeText(std::string_view text) {
    Number number{};
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return number;
}

bool hasLeadingZero(std::string_view text) {
    if (text.starts_with('-')) text.remove_prefix(1);
    return text.size() > 1 && text.front() == '0';
}

/// "010" is 8 in YAML 1.1, which mergekit reads, and 10 in YAML 1.2.
bool isOctal(std::string_view text) {
    return hasLeadingZero(text) && text.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

}  // namespace

std::optional<double> numberFromText(std::string_view text) {
    if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
    if (isOctal(text)) return std::nullopt;
    const auto number = wholeText<double>(text);
    if (!number || !std::isfinite(*number)) return std::nullopt;
    return number;
}

std::optional<std::int64_t> wholeNumberFromText(std::string_view text) {
    if (hasLeadingZero(text)) return std::nullopt;
    return wholeText<std::int64_t>(text);
}

std::optional<std::uint64_t> naturalNumberFromText(std::string_view text) {
    if (hasLeadingZero(text)) return std::nullopt;
    return wholeText<std::uint64_t>(text);
}

std::optional<bool> booleanFromText(std::string_view text) {
    std::string lower(text);
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const auto isOneOf = [&](std::initializer_list<const char*> words) {
        return std::find(words.begin(), words.end(), lower) != words.end();
    };
    if (isOneOf({"true", "yes", "on", "1", "t", "y"})) return true;
    if (isOneOf({"false", "no", "off", "0", "f", "n"})) return false;
    return std::nullopt;
}

}  // namespace aimerge
