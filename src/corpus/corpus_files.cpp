#include "aimerge/corpus/corpus_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <fmt/ranges.h>
#include <glob.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <system_error>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kKinds = ".txt, .jsonl, .json (each also as .gz or .zst), .parquet or .arrow";

std::optional<TextFormat> formatByName(const fs::path& file) {
    const bool isCompressed = file.extension() == ".zst" || file.extension() == ".gz";
    const fs::path extension = isCompressed ? file.stem().extension() : file.extension();
    if (extension == ".txt") return TextFormat::Text;
    if (extension == ".jsonl") return TextFormat::JsonLines;
    if (extension == ".json") return TextFormat::Json;
    if (!isCompressed && (extension == ".parquet" || extension == ".arrow")) return TextFormat::Table;
    return std::nullopt;
}

std::vector<fs::path> filesMatching(const std::string& pattern) {
    glob_t found{};
    const std::unique_ptr<glob_t, decltype(&::globfree)> owner(&found, &::globfree);
    std::vector<fs::path> files;
    if (::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found) != 0) return files;
    for (std::size_t i = 0; i < found.gl_pathc; ++i) files.emplace_back(found.gl_pathv[i]);
    std::erase_if(files, [](const fs::path& file) { return fs::is_directory(file); });
    std::ranges::sort(files);
    return files;
}

json readState(const fs::path& file) {
    json state = json::parse(readTextFile(file), nullptr, false);
    if (!state.is_object()) throw InputError("{}: not a JSON object; was the data set saved whole?", file.string());
    return state;
}

/// What datasets.save_to_disk wrote.
std::vector<fs::path> filesOfDataSet(const fs::path& folder) {
    const fs::path stateFile = folder / "state.json";
    const json state = readState(stateFile);
    std::vector<fs::path> files;
    const auto listed = state.find("_data_files");
    if (listed == state.end() || !listed->is_array())
        throw InputError("{}: has no list '_data_files'; was the data set saved by datasets.save_to_disk?",
                         stateFile.string());
    for (const json& entry : *listed) {
        const auto name = entry.is_object() ? entry.find("filename") : entry.end();
        if (!entry.is_object() || name == entry.end() || !name->is_string())
            throw InputError("{}: an entry of '_data_files' has no 'filename'", stateFile.string());
        files.push_back(folder / name->get<std::string>());
        if (!fs::exists(files.back()))
            throw InputError("{}: the file is missing, state.json lists it; copy the folder again", files.back().string());
    }
    return files;
}

/// Nothing where the folder has no corpus file.
std::vector<fs::path> filesOfFolder(const fs::path& folder) {
    if (fs::exists(folder / "dataset_dict.json")) {
        const json splits = readState(folder / "dataset_dict.json").value("splits", json::array());
        throw InputError(
            "{}: a data set with the splits {}; name one, such as {}", folder.string(), splits.dump(),
            (folder / (splits.empty() || !splits[0].is_string() ? "train" : splits[0].get<std::string>())).string());
    }
    if (fs::exists(folder / "state.json")) return filesOfDataSet(folder);
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file() && formatByName(entry.path()) && entry.path().filename() != "dataset_info.json")
            files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
}

}  // namespace

TextFormat textFormatOf(const fs::path& file) {
    if (const auto format = formatByName(file)) return *format;
    throw InputError("{}: a file of this name is not known as text; expected {}; rename or convert it", file.string(),
                     kKinds);
}

std::vector<fs::path> findCorpusFiles(const std::string& path) {
    std::error_code unreachable;  // then nothing is there
    if (fs::is_directory(path, unreachable)) return filesOfFolder(path);
    if (fs::exists(path, unreachable)) return {path};
    return filesMatching(path);
}

std::vector<fs::path> corpusFiles(const std::string& path) {
    std::vector<fs::path> files = findCorpusFiles(path);
    if (!files.empty()) return files;
    std::error_code unreachable;
    if (fs::is_directory(path, unreachable)) throw InputError("{}: the folder has no text file: expected {}", path, kKinds);
    if (path.find_first_of("*?[") != std::string::npos) throw InputError("{}: no file matches this pattern", path);
    throw InputError("{}: no such file", path);
}

}  // namespace aimerge
