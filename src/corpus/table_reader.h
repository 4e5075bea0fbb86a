#pragma once
// Parquet files and Arrow files, read by pyarrow in a Python process (src/tools/read_tables.py) that is started when the
// first is opened.

#include "corpus/python_helper.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

struct TableInfo {
    std::size_t rows = 0;
    std::uint64_t bytes = 0;  // about, of all columns
    std::vector<std::string> columns;
};

class TableReader {
public:
    /// @throws InputError when the file is damaged; RuntimeFault without Python or pyarrow
    TableInfo open(const std::filesystem::path& file);

    /// Rows of an open file as JSON objects, in the order asked for. Columns without a value are left out.
    std::vector<std::string> read(const std::filesystem::path& file, const std::vector<std::string>& columns,
                                  const std::vector<std::size_t>& rows);

private:
    std::unique_ptr<PythonHelper> helper_;
};

}  // namespace aimerge
