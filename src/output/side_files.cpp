#include "aimerge/output/side_files.h"

#include "aimerge/vocabulary/tokenizer_files.h"

#include <algorithm>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

/// Names of the files to copy, sorted.
std::vector<std::string> namesToCopy(const SideFiles& files) {
    std::vector<std::string> names;
    if (files.tokenizer == TokenizerCopy::FromSource) names = tokenizerFilesIn(files.copyFrom);
    if (fs::exists(files.copyFrom / kGenerationConfigFileName)) names.emplace_back(kGenerationConfigFileName);
    std::ranges::sort(names);
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
    const fs::path path = folder / name;
    fs::create_directories(path.parent_path());
    writeTextFile(path, contents);
    return {name, contents.size(), digestOf(contents), std::nullopt};
}

std::vector<ManifestFile> writeSideFiles(const fs::path& folder, const ShardLayout& layout, const SideFiles& files) {
    std::vector<ManifestFile> entries;
    const auto write = [&](const std::string& name, std::string_view contents) {
        entries.push_back(writeSideFile(folder, name, contents));
    };
    if (layout.shards.size() > 1) write(kIndexFileName, layout.indexJson());
    write(kConfigFileName, files.config.dump(2) + "\n");
    for (const std::string& name : namesToCopy(files)) write(name, readTextFile(files.copyFrom / name));
    write(kModelCardFileName, files.modelCard);
    write(kMergeConfigFileName, files.mergeConfig);
    return entries;
}

}  // namespace aimerge
