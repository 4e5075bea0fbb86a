#include "aimerge/output/companion_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/python_json.h"
#include "aimerge/output/side_files.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kModules = "modules.json";

/// Files of transformers' processors, of decoders with a language model, and of sentence-transformers.
constexpr std::array<std::string_view, 7> kNames{kGenerationConfigFileName,
                                                 "preprocessor_config.json",
                                                 "processor_config.json",
                                                 "video_preprocessor_config.json",
                                                 "alphabet.json",
                                                 kModules,
                                                 "config_sentence_transformers.json"};
constexpr std::array<std::string_view, 2> kFolders{"custom_generate", "language_model"};

/// Where a model's folder may name code.
constexpr std::array<const char*, 5> kNamingCode{"config.json", "tokenizer_config.json", "preprocessor_config.json",
                                                 "processor_config.json", "video_preprocessor_config.json"};

bool isCompanion(const std::string& name) {
    return std::ranges::find(kNames, name) != kNames.end() ||
           (name.starts_with("sentence_") && name.ends_with("_config.json"));
}

bool isCode(const std::string& path) {
    return path.ends_with(".py");
}

/// Discarded when there is no such file, or it is not JSON: its own reader says so.
Json readJson(const fs::path& path) {
    if (!fs::is_regular_file(path)) return Json(Json::value_t::discarded);
    return tryParsePythonJson<Json>(readTextFile(path));
}

std::string textOf(const Json& object, const char* key) {
    const auto value = object.is_object() ? object.find(key) : object.end();
    return value != object.end() && value->is_string() ? value->get<std::string>() : "";
}

/// Files that `auto_map` names, without those of other repositories ("org/name--file.Class").
std::set<std::string> filesOfAutoMap(const fs::path& folder) {
    std::set<std::string> files;
    const auto add = [&](const Json& reference) {
        if (!reference.is_string()) return;
        const auto& text = reference.get_ref<const std::string&>();
        if (text.find("--") == std::string::npos && text.find('.') != std::string::npos)
            files.insert(text.substr(0, text.rfind('.')) + ".py");
    };
    for (const char* name : kNamingCode) {
        const Json config = readJson(folder / name);
        if (!config.is_object() || !config.contains("auto_map") || !config["auto_map"].is_object()) continue;
        for (const Json& reference : config["auto_map"]) {
            add(reference);
            if (reference.is_array())
                for (const Json& part : reference) add(part);  // of a tokenizer: the slow and the fast one
        }
    }
    return files;
}

/// Folders of the modules of sentence-transformers; the model itself has the path "".
std::set<std::string> moduleFolders(const fs::path& folder) {
    std::set<std::string> folders;
    const Json modules = readJson(folder / kModules);
    if (!modules.is_array()) return folders;
    for (const Json& module : modules) {
        const std::string path = textOf(module, "path");
        const fs::path normal = fs::path(path).lexically_normal();
        if (path.empty() || normal == ".") continue;
        if (normal.is_absolute() || *normal.begin() == "..")
            throw InputError("{}: has a module with the path \"{}\", expected a folder beside it",
                             (folder / kModules).string(), path);
        folders.insert(normal.generic_string());
    }
    return folders;
}

bool hasModulesOfItsOwn(const fs::path& folder) {
    const Json modules = readJson(folder / kModules);
    return modules.is_array() && std::ranges::any_of(modules, [](const Json& module) {
               return !textOf(module, "type").empty() && !textOf(module, "type").starts_with("sentence_transformers.");
           });
}

bool haveSameContents(const fs::path& a, const fs::path& b) {
    if (a.extension() == ".json") {
        Json ofA = readJson(a), ofB = readJson(b);
        if (ofA.is_object() && ofB.is_object()) {
            ofA.erase("transformers_version"), ofB.erase("transformers_version");
            return nlohmann::json(ofA) == nlohmann::json(ofB);  // in any order
        }
    }
    return fs::file_size(a) == fs::file_size(b) && readTextFile(a) == readTextFile(b);
}

void sayCode(const NamedFolder& reference, const std::vector<std::string>& companions) {
    std::vector<std::string> code, missing;
    std::ranges::copy_if(companions, std::back_inserter(code), isCode);
    for (const std::string& file : filesOfAutoMap(reference.folder))
        if (std::ranges::find(code, file) == code.end()) missing.push_back(file);
    if (!code.empty())
        spdlog::info("{}: its code comes along ({}); loaders run it where they are told to (trust_remote_code)",
                     reference.name, fmt::join(code, ", "));
    if (!missing.empty())
        spdlog::warn("{}: auto_map names {}, which its folder does not have; loaders of the output will not find it either",
                     reference.name, fmt::join(missing, ", "));
}

}  // namespace

std::vector<std::string> companionFiles(const fs::path& folder) {
    std::vector<std::string> files;
    const bool hasCode = !filesOfAutoMap(folder).empty() || hasModulesOfItsOwn(folder);
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if ((isCompanion(name) || (hasCode && isCode(name))) && entry.is_regular_file()) files.push_back(name);
    }
    std::set<std::string> folders = moduleFolders(folder);
    folders.insert(kFolders.begin(), kFolders.end());
    for (const std::string& name : folders) {
        if (!fs::is_directory(folder / name)) continue;
        for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder / name))
            if (entry.is_regular_file()) files.push_back(entry.path().lexically_relative(folder).generic_string());
    }
    std::ranges::sort(files);
    files.erase(std::unique(files.begin(), files.end()), files.end());
    return files;
}

void sayCompanions(const NamedFolder& reference, std::span<const NamedFolder> others) {
    const std::vector<std::string> companions = companionFiles(reference.folder);
    sayCode(reference, companions);
    std::map<std::string, std::vector<std::string>> different, additional;  // models by file
    for (const NamedFolder& other : others) {
        if (fs::equivalent(other.folder, reference.folder)) continue;
        for (const std::string& file : companionFiles(other.folder)) {
            if (file == kGenerationConfigFileName) continue;
            const bool isCommon = std::ranges::binary_search(companions, file);
            if (!isCommon)
                additional[file].push_back(other.name);
            else if (!haveSameContents(other.folder / file, reference.folder / file))
                different[file].push_back(other.name);
        }
    }
    const auto list = [](const std::map<std::string, std::vector<std::string>>& files) {
        std::vector<std::string> texts;
        for (const auto& [file, models] : files) texts.push_back(fmt::format("{} ({})", file, fmt::join(models, ", ")));
        return fmt::format("{}", fmt::join(texts, ", "));
    };
    if (!different.empty())
        spdlog::warn("files beside the weights differ from those of {}, which the output gets: {}", reference.name,
                     list(different));
    if (!additional.empty())
        spdlog::warn("files beside the weights that {} does not have are left out: {}", reference.name, list(additional));
}

}  // namespace aimerge
