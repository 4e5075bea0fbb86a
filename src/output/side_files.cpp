#include "aimerge/output/side_files.h"

#include "aimerge/core/file.h"
#include "aimerge/core/python_json.h"
#include "aimerge/output/companion_files.h"
#include "aimerge/vocabulary/tokenizer_files.h"

#include <algorithm>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

/// Paths of the files to copy, sorted.
std::vector<std::string> namesToCopy(const SideFiles& files) {
    std::vector<std::string> names = companionFiles(files.copyFrom);
    if (files.tokenizer == TokenizerCopy::FromSource)
        std::ranges::move(tokenizerFilesIn(files.copyFrom), std::back_inserter(names));
    std::ranges::sort(names);
    return names;
}

std::string contentsToCopy(const SideFiles& files, const std::string& name) {
    std::string text = readTextFile(files.copyFrom / name);
    if (!files.dropsProcessorTemplate || name != "processor_config.json") return text;
    auto config = tryParsePythonJson<nlohmann::ordered_json>(text);
    if (!config.is_object() || config.erase("chat_template") == 0) return text;
    return dumpPythonJson(config, 2) + "\n";
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
    write(kConfigFileName, dumpPythonJson(files.config, 2) + "\n");
    for (const std::string& name : namesToCopy(files)) write(name, contentsToCopy(files, name));
    write(kModelCardFileName, files.modelCard);
    write(kMergeConfigFileName, files.mergeConfig);
    return entries;
}

}  // namespace aimerge
