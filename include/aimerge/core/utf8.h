#pragma once
// The few questions about UTF-8 that texts and names raise.

#include <cstddef>
#include <optional>
#include <string_view>

namespace aimerge {

/// Position of the first byte that is not part of a well-formed character (RFC 3629: no surrogates, no overlong forms).
std::optional<std::size_t> firstInvalidUtf8(std::string_view text);

/// Without white space at both ends; white space is what Python's str.strip() takes for it. @pre text is valid UTF-8
std::string_view stripWhiteSpace(std::string_view text);
std::string_view stripWhiteSpaceLeft(std::string_view text);
std::string_view stripWhiteSpaceRight(std::string_view text);

/// Without an incomplete character at its end. @pre text is the beginning of valid UTF-8
std::string_view wholeCharacters(std::string_view text);

}  // namespace aimerge
