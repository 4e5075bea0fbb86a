#include "output/consistency.h"

#include "aimerge/architecture/architecture.h"
#include "aimerge/output/side_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace aimerge {
namespace {

Finding indexFinding(const std::string& tensor, const std::string& text) {
    return {kIndexFileName, tensor, std::nullopt, fmt::format("{}: {}", kIndexFileName, text)};
}

Finding configFinding(const std::string& tensor, const std::string& text) {
    return {kConfigFileName, tensor, std::nullopt, fmt::format("{}: {}", kConfigFileName, text)};
}

std::vector<TensorInfo> allTensors(const ShardHeaders& headers) {
    std::vector<TensorInfo> all;
    for (const auto& [file, header] : headers) all.insert(all.end(), header.tensors.begin(), header.tensors.end());
    return all;
}

bool isCausalLanguageModel(const nlohmann::ordered_json& config) {
    const auto architectures = config.find("architectures");
    return architectures != config.end() && architectures->is_array() && !architectures->empty() &&
           architectures->front().is_string() &&
           architectures->front().get_ref<const std::string&>().ends_with("ForCausalLM");
}

}  // namespace

std::vector<Finding> checkIndex(const nlohmann::json& index, const std::vector<std::string>& files,
                                const ShardHeaders& headers) {
    std::map<std::string, std::string> weightMap;
    try {
        weightMap = index.at("weight_map").get<std::map<std::string, std::string>>();
    } catch (const nlohmann::json::exception& error) {
        return {indexFinding("", fmt::format("not an index of shards: {}", error.what()))};
    }

    std::vector<Finding> findings;
    std::map<std::string, std::set<std::string>> tensorsOfFile;
    for (const auto& [tensor, file] : weightMap) tensorsOfFile[file].insert(tensor);
    for (const auto& [file, tensors] : tensorsOfFile) {
        if (std::ranges::find(files, file) == files.end()) {
            findings.push_back(
                indexFinding(*tensors.begin(), fmt::format("{} of its tensors, {} the first, are in {}, which is missing",
                                                           tensors.size(), *tensors.begin(), file)));
        }
        const auto header = headers.find(file);
        if (header == headers.end()) continue;
        std::set<std::string> stored;
        for (const TensorInfo& tensor : header->second.tensors) stored.insert(tensor.name);
        for (const std::string& tensor : tensors) {
            if (stored.contains(tensor)) continue;
            findings.push_back(
                indexFinding(tensor, fmt::format("tensor {} is said to be in {}, which lacks it", tensor, file)));
        }
        for (const std::string& tensor : stored) {
            if (tensors.contains(tensor)) continue;
            findings.push_back(indexFinding(tensor, fmt::format("tensor {} of {} is not in the index", tensor, file)));
        }
    }
    return findings;
}

std::vector<Finding> checkTiedEmbeddings(const nlohmann::ordered_json& config, const ShardHeaders& headers) {
    const auto tied = config.find("tie_word_embeddings");
    if (tied == config.end() || !tied->is_boolean()) return {};
    const std::vector<TensorInfo> tensors = allTensors(headers);
    const Architecture architecture(config, tensors);
    const std::string& head = architecture.head();
    if (head.empty()) return {};
    const bool stored = std::ranges::find(tensors, head, &TensorInfo::name) != tensors.end();
    if (tied->get<bool>() && stored) {
        return {configFinding(head,
                              fmt::format("tie_word_embeddings is true, but {} is stored; loaders would ignore it", head))};
    }
    if (!tied->get<bool>() && !stored && isCausalLanguageModel(config)) {
        return {configFinding(
            head, fmt::format("tie_word_embeddings is false, but there is no {}; loaders would make one up", head))};
    }
    return {};
}

}  // namespace aimerge
