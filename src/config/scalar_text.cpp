#include "config/scalar_text.h"

#include <cctype>
#include <charconv>
#include <cmath>
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

}  // namespace

std::optional<double> numberFromText(std::string_view text) {
    if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
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
    if (lower == "true" || lower == "yes" || lower == "1") return true;
    if (lower == "false" || lower == "no" || lower == "0") return false;
    return std::nullopt;
}

}  // namespace aimerge
