#include "aimerge/output/side_files.h"

#include "aimerge/core/python_json.h"
#include "aimerge/output/companion_files.h"
#include "aimerge/vocabulary/tokenizer_files.h"

#include <algorithm>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

bool isTokenizerFile(const std::string& name) {
    return std::ranges::count(tokenizerFileNames(), name) > 0 || name.ends_with(".tiktoken");
}

/// Paths of the files to copy, sorted.
std::vector<std::string> namesToCopy(const SideFiles& files) {
    std::vector<std::string> names = companionFiles(files.copyFrom);
    for (const fs::directory_entry& entry : fs::directory_iterator(files.copyFrom)) {
        const std::string name = entry.path().filename().string();
        if (files.tokenizer == TokenizerCopy::FromSource && isTokenizerFile(name)) names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
}

}  // namespace

nlohmann::ordered_json withDtype(nlohmann::ordered_json config, Dtype dtype) {
    const bool newStyle = config.contains("dtype");
    if (newStyle) config["dtype"] = torchName(dtype);
    if (!newStyle || config.contains("torch_dtype")) config["torch_dtype"] = torchName(dtype);
    return config;
}

ManifestFile writeSideFile(const fs::path& folder, const std::string& name, std::string_view contents) {
    fs::create_directories((folder / name).parent_path());
    writeTextFile(folder / name, contents);
    return {name, contents.size(), digestOf(contents), std::nullopt};
}

std::vector<ManifestFile> writeSideFiles(const fs::path& folder, const ShardLayout& layout, const SideFiles& files) {
    std::vector<ManifestFile> entries;
    const auto write = [&](const std::string& name, std::string_view contents) {
        entries.push_back(writeSideFile(folder, name, contents));
    };
    if (layout.shards.size() > 1) write(kIndexFileName, layout.indexJson());
    write(kConfigFileName, dumpPythonJson(files.config, 2) + "\n");
    for (const std::string& name : namesToCopy(files)) write(name, readTextFile(files.copyFrom / name));
    write(kModelCardFileName, files.modelCard);
    write(kMergeConfigFileName, files.mergeConfig);
    return entries;
}

}  // namespace aimerge
