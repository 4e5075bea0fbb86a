#include "corpus/table_reader.h"

#include "aimerge/core/error.h"

#include <nlohmann/json.hpp>

namespace aimerge {

using nlohmann::json;

TableInfo TableReader::open(const std::filesystem::path& file) {
    if (!helper_) helper_ = std::make_unique<PythonHelper>("read_tables.py", std::vector<std::string>{}, "pyarrow");
    const json info = json::parse(helper_->request(json{{"open", file.string()}}.dump()));
    return {info.at("rows"), info.at("bytes"), info.at("columns")};
}

std::vector<std::string> TableReader::read(const std::filesystem::path& file, const std::vector<std::string>& columns,
                                           const std::vector<std::size_t>& rows) {
    const json request{{"read", file.string()}, {"columns", columns}, {"rows", rows}};
    return json::parse(helper_->request(request.dump())).get<std::vector<std::string>>();
}

}  // namespace aimerge
