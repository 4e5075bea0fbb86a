#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace aimerge {

/// A name out of a file as messages show it: in quotes, of foreign bytes their numbers, cut where it is long.
inline std::string inQuotes(std::string_view name) {
    constexpr std::size_t kLongest = 120;
    std::string text = "\"";
    for (const char c : name.substr(0, kLongest))
        text += c >= ' ' && c <= '~' ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    return text + (name.size() > kLongest ? "...\"" : "\"");
}

}  // namespace aimerge
