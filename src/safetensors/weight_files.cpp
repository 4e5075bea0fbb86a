#include "safetensors/weight_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "safetensors/strict_json.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr std::string_view kSafetensors = ".safetensors";

std::vector<std::string> namesIn(const fs::path& folder) {
    std::error_code error;
    fs::directory_iterator entries(folder, error);
    if (error) throw InputError("{}: the folder cannot be listed: {}", folder.string(), error.message());
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : entries) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// A shard may not lie elsewhere: an index is data of others, and must not make us read any file it likes.
void checkShardName(const std::string& shard, const std::string& tensor, const std::string& indexName) {
    const bool plain = shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos && shard.ends_with(kSafetensors) &&
                       shard.size() > kSafetensors.size();
    if (!plain)
        throw InputError("{}: tensor {} is mapped to \"{}\", expected the name of a .safetensors file in the same folder",
                         indexName, tensor, shard);
}

WeightFiles readIndex(const fs::path& folder) {
    WeightFiles files;
    files.index = folder / kIndex;
    const std::string indexName = files.index.string();
    const auto index = parseStrictJson<nlohmann::json>(readTextFile(files.index), indexName);
    const auto weightMap = index.find("weight_map");
    if (weightMap == index.end() || !weightMap->is_object() || weightMap->empty())
        throw InputError("{}: has no weight_map, expected an object of tensor names and file names", indexName);

    std::set<std::string> shards;
    for (const auto& [tensor, shard] : weightMap->items()) {
        if (!shard.is_string())
            throw InputError("{}: tensor {} is mapped to {}, expected a file name", indexName, tensor, shard.type_name());
        const std::string& name = files.weightMap[tensor] = shard.get<std::string>();
        if (shards.insert(name).second) checkShardName(name, tensor, indexName);
    }
    for (const std::string& shard : shards) {
        if (!fs::exists(folder / shard))
            throw InputError("{}: the shard is missing, {} lists it; fetch the file again", (folder / shard).string(),
                             kIndex);
        files.paths.push_back(folder / shard);
    }
    const auto metadata = index.find("metadata");
    if (metadata != index.end() && metadata->is_object() && !metadata->value("total_size", nlohmann::json()).is_null()) {
        const nlohmann::json& total = metadata->at("total_size");
        if (!total.is_number())
            throw InputError("{}: metadata.total_size is {}, expected a number", indexName, total.type_name());
        files.totalSize = total.get<double>();
    }
    return files;
}

[[noreturn]] void throwNoWeights(const fs::path& folder, const std::vector<std::string>& names) {
    const auto withSuffix = [&](std::initializer_list<std::string_view> suffixes) {
        return std::find_if(names.begin(), names.end(), [&](const std::string& name) {
            return std::any_of(suffixes.begin(), suffixes.end(),
                               [&](std::string_view suffix) { return name.ends_with(suffix); });
        });
    };
    if (const auto name = withSuffix({".bin", ".pt", ".pth"}); name != names.end())
        throw InputError(
            "{0}: has PyTorch weights ({1}) but no safetensors; convert them: python3 -c \"from transformers import "
            "AutoModelForCausalLM as M; M.from_pretrained('{0}', torch_dtype='auto').save_pretrained('{0}')\"",
            folder.string(), *name);
    if (const auto name = withSuffix({".gguf"}); name != names.end())
        throw InputError("{}: has GGUF weights ({}), expected safetensors; fetch the original model", folder.string(),
                         *name);
    throw InputError("{}: has no weights, expected {}, or shards with {}", folder.string(), kSingleFile, kIndex);
}

}  // namespace

WeightFiles findWeightFiles(const fs::path& folder) {
    const std::vector<std::string> names = namesIn(folder);
    const auto has = [&](std::string_view name) { return std::binary_search(names.begin(), names.end(), name); };
    if (has(kSingleFile)) {
        if (has(kIndex))
            spdlog::warn("{}: has both {} and {}; the first is read, as transformers does", folder.string(), kSingleFile,
                         kIndex);
        return {{folder / kSingleFile}, {}, {}, -1};
    }
    if (has(kIndex)) return readIndex(folder);

    std::vector<fs::path> others;
    for (const std::string& name : names) {
        if (name.ends_with(kSafetensors)) others.push_back(folder / name);
    }
    if (others.empty()) throwNoWeights(folder, names);
    if (others.size() > 1)
        throw InputError("{}: has {} safetensors files, {} and others, but no {}; fetch the index too", folder.string(),
                         others.size(), others.front().filename().string(), kIndex);
    return {others, {}, {}, -1};
}

}  // namespace aimerge
