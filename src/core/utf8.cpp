#include "aimerge/core/utf8.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

/// White space beyond U+0020, as str.isspace() of Python has it.
constexpr std::array<char32_t, 19> kWideSpaces = {0x85,   0xA0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003,
                                                  0x2004, 0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200A,
                                                  0x2028, 0x2029, 0x202F, 0x205F, 0x3000};

bool isSpace(char32_t character) {
    if (character >= 0x09 && character <= 0x0D) return true;
    if (character >= 0x1C && character <= 0x20) return true;
    return std::find(kWideSpaces.begin(), kWideSpaces.end(), character) != kWideSpaces.end();
}

bool isContinuation(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

struct Character {
    char32_t value = 0;
    std::size_t bytes = 0;  // 0: not well-formed
};

Character decodeFirst(std::string_view text) {
    const auto first = static_cast<unsigned char>(text[0]);
    if (first < 0x80) return {first, 1};
    const std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < bytes) return {};
    char32_t value = first & (0xFF >> (bytes + 1));
    for (std::size_t index = 1; index < bytes; ++index) {
        if (!isContinuation(text[index])) return {};
        value = (value << 6) | (static_cast<unsigned char>(text[index]) & 0x3F);
    }
    constexpr std::array<char32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value < kSmallest[bytes] || value > 0x10FFFF || surrogate) return {};
    return {value, bytes};
}

}  // namespace

std::optional<std::size_t> firstInvalidUtf8(std::string_view text) {
    std::size_t position = 0;
    while (position < text.size()) {
        if (static_cast<unsigned char>(text[position]) < 0x80) {
            ++position;
            continue;
        }
        const Character character = decodeFirst(text.substr(position));
        if (character.bytes == 0) return position;
        position += character.bytes;
    }
    return std::nullopt;
}

std::string_view stripWhiteSpaceLeft(std::string_view text) {
    while (!text.empty()) {
        const Character character = decodeFirst(text);
        if (character.bytes == 0 || !isSpace(character.value)) break;
        text.remove_prefix(character.bytes);
    }
    return text;
}

std::string_view stripWhiteSpaceRight(std::string_view text) {
    while (!text.empty()) {
        std::size_t start = text.size() - 1;
        while (start > 0 && isContinuation(text[start])) --start;
        const Character character = decodeFirst(text.substr(start));
        if (character.bytes == 0 || !isSpace(character.value)) break;
        text.remove_suffix(text.size() - start);
    }
    return text;
}

std::string_view stripWhiteSpace(std::string_view text) {
    return stripWhiteSpaceRight(stripWhiteSpaceLeft(text));
}

std::string_view wholeCharacters(std::string_view text) {
    if (text.empty()) return text;
    std::size_t start = text.size() - 1;
    while (start > 0 && isContinuation(text[start])) --start;
    return decodeFirst(text.substr(start)).bytes == 0 ? text.substr(0, start) : text;
}

}  // namespace aimerge
