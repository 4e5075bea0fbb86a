#pragma once
// A file as numbered rows of text: a whole .txt or its lines, the lines of a .jsonl, the elements of a .json list, the rows
// of a table. Rows with columns come as JSON objects, whatever the file is.

#include "aimerge/corpus/corpus_files.h"
#include "corpus/table_reader.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

class RowFile {
public:
    virtual ~RowFile() = default;

    virtual std::size_t rows() const = 0;
    /// Bytes of the row in the file, uncompressed; of a table about, on average.
    virtual std::uint64_t bytesOf(std::size_t row) const = 0;
    /// "corpus.jsonl:17"
    virtual std::string placeOf(std::size_t row) const = 0;
    /// Names, where the file is a table; else empty.
    virtual std::vector<std::string> columns() const { return {}; }
    /// Columns that read() is to give, all by default; those that a table does not have are left out.
    virtual void selectColumns(const std::vector<std::string>&) {}

    /// In the order asked for, each row at most once; one pass over the file, as far as the last of them.
    virtual std::vector<std::string> read(const std::vector<std::size_t>& rows) = 0;
    /// A row's first bytes, at most `limit`, as they stand in the file; of a table all of them.
    virtual std::string readBeginning(std::size_t row, std::uint64_t limit) = 0;
};

/// Sees every row of a file that is not a table, in order, when it is opened.
using RowVisitor = std::function<void(const std::string& row, const std::function<std::string()>& place)>;

/// @param tables opens the files that are tables
/// @throws InputError: unknown name, damaged data, invalid UTF-8 of .txt; what the visitor throws
std::unique_ptr<RowFile> openRowFile(const std::filesystem::path& file, TextUnit unit,
                                     const std::shared_ptr<TableReader>& tables, const RowVisitor& visit);

}  // namespace aimerge
