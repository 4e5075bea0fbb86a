#pragma once
// Files of text or of rows, for readers that take all of them: evaluation suites.

#include <filesystem>
#include <functional>
#include <string>

namespace aimerge {

/// Every row in order, as a JSON text, with its place: "suite.jsonl:17". Of a table, columns without a value are left out.
/// @throws InputError for damaged files, and what the visitor throws; RuntimeFault where a table's reader cannot be started
void forEachRow(const std::filesystem::path& file,
                const std::function<void(const std::string& row, const std::string& place)>& visit);

/// A .txt file, also compressed, without its byte order mark. @throws InputError when it is damaged or not UTF-8
std::string readWholeText(const std::filesystem::path& file);

}  // namespace aimerge
