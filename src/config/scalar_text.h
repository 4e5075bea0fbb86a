#pragma once
// What counts as a number and as a boolean in a config. Quoted and plain scalars are read alike, as mergekit does ("1e-5").

#include <cstdint>
#include <optional>
#include <string_view>

namespace aimerge {

/// Decimal notation, finite. Digits behind a zero are none: 010 is 8 for mergekit, whose YAML 1.1 has octal numbers.
std::optional<double> numberFromText(std::string_view text);

/// Digits with an optional minus, nothing else; no leading zeros, which YAML 1.1 reads as octal.
std::optional<std::int64_t> wholeNumberFromText(std::string_view text);
std::optional<std::uint64_t> naturalNumberFromText(std::string_view text);

/// true/false, yes/no, on/off, 1/0, and t, f, y, n, as YAML and pydantic read them; upper or lower case.
std::optional<bool> booleanFromText(std::string_view text);

}  // namespace aimerge
