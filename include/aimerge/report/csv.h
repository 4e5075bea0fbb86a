#pragma once
// Comma-separated values as RFC 4180 has them: quoted fields may hold commas, line breaks and doubled quotes; lines end with
// LF or CRLF; a byte order mark is skipped, empty lines are left out.

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct CsvRecord {
    std::size_t line = 0;  // of the file, from 1, where the record begins
    std::vector<std::string> fields;
};

/// @throws InputError with file and line: a quote that is not closed, or in the middle of a field
std::vector<CsvRecord> parseCsv(std::string_view text, const std::filesystem::path& file);

/// The field as it stands in a file: quoted where it must be.
std::string csvField(std::string_view value);

}  // namespace aimerge
