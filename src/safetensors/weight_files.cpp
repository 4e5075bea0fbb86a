#include "aimerge/safetensors/weight_files.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/safetensors/strict_json.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

/// What a model's weights are called.
struct Form {
    const char* singleFile;
    const char* index;
    std::string_view suffix;
};

constexpr Form kSafetensors{"model.safetensors", "model.safetensors.index.json", ".safetensors"};
constexpr Form kTorch{"pytorch_model.bin", "pytorch_model.bin.index.json", ".bin"};
constexpr const Form* kForms[] = {&kSafetensors, &kTorch};  // the first that a folder has counts, as in transformers

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
void checkShardName(const std::string& shard, const std::string& tensor, std::string_view suffix,
                    const std::string& indexName) {
    const bool plain = shard.find_first_of(std::string("/\\\0", 3)) == std::string::npos && shard.ends_with(suffix) &&
                       shard.size() > suffix.size();
    if (!plain)
        throw InputError("{}: tensor {} is mapped to \"{}\", expected the name of a {} file in the same folder", indexName,
                         tensor, shard, suffix);
}

WeightFiles readIndex(const fs::path& folder, const Form& form) {
    WeightFiles files;
    files.index = folder / form.index;
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
        if (shards.insert(name).second) checkShardName(name, tensor, form.suffix, indexName);
    }
    for (const std::string& shard : shards) {
        if (!fs::exists(folder / shard))
            throw InputError("{}: the shard is missing, {} lists it; fetch the file again", (folder / shard).string(),
                             form.index);
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
            "{}: has PyTorch files ({}), but none of a name that loaders look for, expected {}, or shards with {}; "
            "fetch the index too, or the model in the Hugging Face format",
            folder.string(), *name, kTorch.singleFile, kTorch.index);
    if (const auto name = withSuffix({".gguf"}); name != names.end())
        throw InputError("{}: has GGUF weights ({}), expected safetensors; fetch the original model", folder.string(),
                         *name);
    throw InputError("{}: has no weights, expected {} or {}, or shards with {} or {}", folder.string(),
                     kSafetensors.singleFile, kTorch.singleFile, kSafetensors.index, kTorch.index);
}

}  // namespace

WeightFiles findWeightFiles(const fs::path& folder) {
    const std::vector<std::string> names = namesIn(folder);
    const auto has = [&](std::string_view name) { return std::binary_search(names.begin(), names.end(), name); };
    for (const Form* form : kForms) {
        if (has(form->singleFile)) {
            if (has(form->index))
                spdlog::warn("{}: has both {} and {}; the first is read, as transformers does", folder.string(),
                             form->singleFile, form->index);
            return {{folder / form->singleFile}, {}, {}, -1};
        }
        if (has(form->index)) return readIndex(folder, *form);
    }

    std::vector<fs::path> others;
    for (const std::string& name : names) {
        if (name.ends_with(kSafetensors.suffix)) others.push_back(folder / name);
    }
    if (others.empty()) throwNoWeights(folder, names);
    if (others.size() > 1)
        throw InputError("{}: has {} safetensors files, {} and others, but no {}; fetch the index too", folder.string(),
                         others.size(), others.front().filename().string(), kSafetensors.index);
    return {others, {}, {}, -1};
}

bool hasModelWeights(const fs::path& folder) {
    return std::ranges::any_of(
        kForms, [&](const Form* form) { return fs::exists(folder / form->singleFile) || fs::exists(folder / form->index); });
}

}  // namespace aimerge
