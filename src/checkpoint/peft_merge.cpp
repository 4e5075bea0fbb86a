#include "aimerge/checkpoint/peft_merge.h"

#include "adapter_config.h"
#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/helper_process.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kMergedPrefix = "merged-";

fs::path script() {
    fs::path path = environment::toolsDirectory() / "merge_adapter.py";
    if (!exists(path))
        throw RuntimeFault("{}: the script that merges adapters with PEFT is not there; set AIMERGE_TOOLS_DIR to its folder",
                           path.string());
    return path;
}

/// What the script is asked to do: which modules of the base the adapter changes, and where their weights lie.
class JobWriter {
public:
    JobWriter(const Checkpoint& base, const fs::path& adapter)
        : base_(base), adapter_(adapter), mapping_(base.architecture(), base.tensors()) {}

    /// @param reason why PEFT merges it, for messages @param out the folder for the result, without PEFT's version
    Json job(const std::string& reason, const fs::path& out) {
        Json stored = Json::array();
        for (const TensorInfo& tensor : readSafetensorsHeader(adapter_ / kWeightsName).tensors) {
            // What all modules share, such as the projections of VeRA, stands outside of the model.
            if (!tensor.name.starts_with(kPrefix)) continue;
            const std::string name = tensor.name.substr(kPrefix.size());
            if (isStoredInFull(name))
                stored.push_back(tensor.name);
            else
                addModuleOf(name);
        }
        if (modules_.empty())
            throw InputError(
                "{}: its tensors do not say which modules they change, so PEFT needs the whole model for it: merge it "
                "with merge_and_unload and name the result",
                (adapter_ / kWeightsName).string());
        Json modules = Json::array();
        for (auto& [name, module] : modules_) modules.push_back(std::move(module));
        return {{"adapter", fs::absolute(adapter_).string()},
                {"reason", reason},
                {"out", out.string()},
                {"modules", std::move(modules)},
                {"stored", std::move(stored)}};
    }

private:
    const TensorInfo* tensorOf(const std::string& name) const {
        const auto found = mapping_.find(name);
        return found ? base_.find(*found) : nullptr;
    }

    bool isStoredInFull(const std::string& name) const {
        return name.find(".modules_to_save.") != std::string::npos || name.find(".original_module.") != std::string::npos ||
               tensorOf(name) != nullptr;
    }

    /// The longest part of the name that is a module of the base.
    void addModuleOf(const std::string& name) {
        for (std::size_t dot = name.rfind('.'); dot != std::string::npos && dot > 0; dot = name.rfind('.', dot - 1)) {
            const std::string module = name.substr(0, dot);
            if (modules_.contains(module)) return;
            if (const TensorInfo* weight = tensorOf(module + ".weight")) return add(module, *weight);
        }
        throw InputError("{}: tensor {}{} is for no module of {}; name the base that it was trained on",
                         (adapter_ / kWeightsName).string(), kPrefix, name, base_.folder().string());
    }

    void add(const std::string& module, const TensorInfo& weight) {
        if (!isMergeable(weight.dtype))
            throw InputError("{}: changes {}, which is {} in {}; expected BF16, F16, F32 or F64", adapter_.string(),
                             weight.name, safetensorsName(weight.dtype), base_.folder().string());
        Json& entry = modules_[module];
        entry = {{"name", module}, {"kind", kindOf(weight)}, {"weight", placeOf(weight)}, {"shape", weight.shape}};
        if (const TensorInfo* bias = tensorOf(module + ".bias")) entry["bias"] = placeOf(*bias);
    }

    /// The module of PyTorch, or of transformers, that has such a weight.
    std::string kindOf(const TensorInfo& weight) const {
        const Parameter parameter = base_.architecture().describe(weight);
        if (parameter.role == Role::Embedding || parameter.role == Role::Lookup) return "Embedding";
        if (weight.shape.size() == 2) return parameter.inputAxis == -2 ? "Conv1D" : "Linear";
        throw InputError("{}: changes {} {}; aimerge has PEFT merge changes of matrices alone", adapter_.string(),
                         weight.name, shapeText(weight.shape));
    }

    Json placeOf(const TensorInfo& tensor) const {
        return {{"file", fs::absolute(base_.files()[tensor.fileIndex]).string()},
                {"begin", tensor.bytes.begin},
                {"end", tensor.bytes.end},
                {"dtype", safetensorsName(tensor.dtype)},
                {"shape", tensor.shape}};
    }

    const Checkpoint& base_;
    fs::path adapter_;
    NameMapping mapping_;
    std::map<std::string, Json> modules_;
};

std::string keyOf(const Checkpoint& base, const fs::path& adapter) {
    Hasher hasher;
    hasher.updateField(readTextFile(script()));
    hasher.updateField(base.headerDigest().hex()).updateField(base.identityStamps());
    hasher.updateField(fs::canonical(adapter).string());
    std::map<std::string, fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(adapter))
        if (entry.is_regular_file()) files.emplace(entry.path().filename().string(), entry.path());
    for (const auto& [name, path] : files) {
        const auto time = fs::last_write_time(path).time_since_epoch().count();
        hasher.updateField(fmt::format("{} {} {}", name, fs::file_size(path), time));
    }
    hasher.updateField(readTextFile(adapter / kConfigName));
    return hasher.digest().hex();
}

/// What the script says: its message, whose first byte is its kind.
std::string contentOf(std::string answer) {
    const char kind = answer.empty() ? '\0' : answer.front();
    answer.erase(0, 1);
    if (kind == 'E') throw InputError("{}", answer);
    if (kind != 'I') throw RuntimeFault("merge_adapter.py: {}", answer.empty() ? "no answer" : answer);
    return answer;
}

/// The newest of the folders that some PEFT has made.
std::optional<fs::path> findMerged(const fs::path& cache, const std::string& key) {
    std::optional<fs::path> newest;
    std::error_code ignored;
    for (const fs::directory_entry& entry : fs::directory_iterator(cache, ignored)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(key + "-peft-") && name.find(".partial") == std::string::npos && entry.is_directory() &&
            (!newest || newest->filename().string() < name))
            newest = entry.path();
    }
    return newest;
}

std::string madeReadable(const std::string& path) {
    return path.find_first_of(" '\"$\\") == std::string::npos ? path : "'" + path + "'";
}

}  // namespace

bool isMergedByPeft(const fs::path& folder) {
    return fs::exists(folder / kConfigName) && !AdapterConfig::reasonForPeft(folder / kConfigName).empty();
}

std::vector<fs::path> filesMergedByPeft(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (entry.path().filename().string().starts_with(kMergedPrefix) && entry.path().extension() == ".safetensors")
            files.push_back(entry.path());
    std::ranges::sort(files);
    return files;
}

fs::path mergedByPeft(const Checkpoint& base, const fs::path& adapter) {
    if (!fs::exists(adapter / kWeightsName)) throw InputError("{}: {} is missing", adapter.string(), kWeightsName);
    const std::string reason = AdapterConfig::reasonForPeft(adapter / kConfigName);
    const std::string key = keyOf(base, adapter);
    const fs::path cache = environment::cacheDirectory() / "adapters";
    std::vector<std::string> command = environment::pythonCommand();
    command.insert(command.end(), {script().string(), "--answer"});
    HelperProcess python(std::move(command), "set AIMERGE_PYTHON to an interpreter with the packages `peft` and `torch`");
    // "peft 0.21.2", or "" and why there is none.
    const Json found = Json::parse(contentOf(python.receive()));
    const std::string version = found.at("peft"), lacking = found.at("lacking");
    if (version.empty()) {
        if (const auto merged = findMerged(cache, key)) return *merged;
    } else if (const fs::path merged = cache / (key + "-peft-" + version); fs::exists(merged)) {
        return merged;
    }

    const Json job = JobWriter(base, adapter).job(reason, cache / (key + "-peft-"));
    const fs::path jobFile = cache / (key + ".json");
    fs::create_directories(cache);
    writeTextFile(jobFile, job.dump(1));
    if (version.empty())
        throw RuntimeFault(
            "{}: {}: such an adapter is merged by PEFT itself, and {} has no {}. Run this where Python has PEFT and PyTorch "
            "(or set AIMERGE_PYTHON to such a Python), then the same command again:\n  python {} {}",
            (adapter / kConfigName).string(), reason, environment::pythonInterpreter(), lacking,
            madeReadable(script().string()), madeReadable(jobFile.string()));
    spdlog::info("{}: {}: PEFT {} merges it into {} modules of {}; what comes out stays in {}", adapter.string(), reason,
                 version, job.at("modules").size(), base.name(), cache.string());
    const fs::path merged = contentOf(python.request(jobFile.string()));
    fs::remove(jobFile);
    return merged;
}

}  // namespace aimerge
