#include "aimerge/checkpoint/adapter.h"

#include "adapter_config.h"
#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/checkpoint/weight_header.h"
#include "aimerge/core/error.h"
#include "safetensors/weight_files.h"

#include <array>
#include <string_view>
#include <utility>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kTorchWeightsName = "adapter_model.bin";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kBaseLayer = ".base_layer.";

enum class Factor { A, B };
enum class Layer { Linear, Embedding };

struct FactorName {
    std::string_view suffix;
    Factor factor;
    Layer layer;
};

constexpr FactorName kFactorNames[] = {{".lora_A.weight", Factor::A, Layer::Linear},
                                       {".lora_B.weight", Factor::B, Layer::Linear},
                                       {".lora_embedding_A", Factor::A, Layer::Embedding},
                                       {".lora_embedding_B", Factor::B, Layer::Embedding}};

/// The factors of one module, as far as they have been met.
struct Factors {
    std::optional<TensorInfo> a, b;
    Layer layer = Layer::Linear;
};

bool namesModel(const std::string& text) {
    std::error_code ignored;
    return fs::is_directory(text, ignored) || isHubName(text);
}

/// Sorts the tensors of the weight file into factors by module and parameters stored in full.
class TensorSorter {
public:
    explicit TensorSorter(std::string file) : file_(std::move(file)) {}

    void add(TensorInfo tensor) {
        const std::string_view name = tensor.name;
        if (!name.starts_with(kPrefix))
            throw InputError("{}: tensor {} is not of a LoRA adapter, expected names that begin with {}", file_, name,
                             kPrefix);
        const std::string_view rest = name.substr(kPrefix.size());
        for (const FactorName& factor : kFactorNames) {
            if (rest.ends_with(factor.suffix)) {
                const std::string module(rest.substr(0, rest.size() - factor.suffix.size()));
                return addFactor(module, factor, std::move(tensor));
            }
        }
        std::string parameter(rest);
        if (const std::size_t wrapped = parameter.rfind(kBaseLayer); wrapped != std::string::npos)
            parameter.erase(wrapped, kBaseLayer.size() - 1);
        tensor.name = std::move(parameter);
        replacements_.push_back(std::move(tensor));
    }

    std::map<std::string, Factors>& modules() { return modules_; }
    std::vector<TensorInfo>& replacements() { return replacements_; }

private:
    void addFactor(const std::string& module, const FactorName& name, TensorInfo tensor) {
        if (!isMergeable(tensor.dtype))
            throw InputError("{}: tensor {} is {}, expected BF16, F16, F32 or F64", file_, tensor.name,
                             safetensorsName(tensor.dtype));
        Factors& factors = modules_[module];
        const bool isFirst = !factors.a && !factors.b;
        if (!isFirst && factors.layer != name.layer)
            throw InputError("{}: {} has factors of a linear layer and of an embedding", file_, module);
        factors.layer = name.layer;
        (name.factor == Factor::A ? factors.a : factors.b) = std::move(tensor);
    }

    std::string file_;
    std::map<std::string, Factors> modules_;
    std::vector<TensorInfo> replacements_;
};

LowRankUpdate makeUpdate(const std::string& module, Factors factors, const AdapterConfig& config, const Adapter& adapter) {
    const std::string file = adapter.weights.string();
    if (!factors.a || !factors.b)
        throw InputError("{}: tensor {} has no {} beside it; the file is incomplete", file,
                         (factors.a ? factors.a : factors.b)->name, factors.a ? "B" : "A");
    const std::int64_t rank = config.rankOf(module);
    for (const auto& [tensor, axis] : {std::pair(&*factors.a, 0u), std::pair(&*factors.b, 1u)}) {
        if (tensor->shape.size() != 2 || tensor->elements() == 0)
            throw InputError("{}: tensor {} has shape {}, expected a matrix", file, tensor->name, shapeText(tensor->shape));
        if (tensor->shape[axis] != rank)
            throw InputError("{}: tensor {} has shape {}, but {} gives it rank {} (r or rank_pattern)", file, tensor->name,
                             shapeText(tensor->shape), adapter.configFile, rank);
    }
    if (const std::string_view key = config.keyThatExcludes(module); !key.empty())
        throw InputError(
            "{}: tensor {} belongs to a module that {} of {} leaves as it is; PEFT would not apply it. Correct the config "
            "or "
            "remove the tensor",
            file, factors.a->name, key, kConfigName);
    const bool transposed = factors.layer == Layer::Embedding || config.fanInFanOut();
    return {std::move(*factors.a), std::move(*factors.b), config.scalingOf(module), transposed};
}

}  // namespace

Shape LowRankUpdate::shape() const {
    return transposed ? Shape{a.shape[1], b.shape[0]} : Shape{b.shape[0], a.shape[1]};
}

std::optional<AdaptedName> splitAdaptedName(const std::string& name) {
    std::error_code ignored;
    if (fs::is_directory(name, ignored)) return std::nullopt;
    for (std::size_t plus = name.find('+'); plus != std::string::npos; plus = name.find('+', plus + 1)) {
        AdaptedName parts{name.substr(0, plus), name.substr(plus + 1)};
        if (namesModel(parts.base) && namesModel(parts.adapter)) return parts;
    }
    return std::nullopt;
}

bool isAdapterFolder(const fs::path& folder) {
    return fs::exists(folder / kConfigName) && !hasModelWeights(folder);
}

Adapter readAdapter(const fs::path& folder) {
    if (!fs::exists(folder / kConfigName))
        throw InputError("{}: {} is missing, so this is no adapter", folder.string(), kConfigName);
    const AdapterConfig config = AdapterConfig::read(folder / kConfigName);
    const bool hasTorchWeights = !fs::exists(folder / kWeightsName) && fs::exists(folder / kTorchWeightsName);
    Adapter adapter{folder,
                    folder / (hasTorchWeights ? kTorchWeightsName : kWeightsName),
                    config.json(),
                    (folder / kConfigName).string(),
                    config.trainedOn(),
                    {},
                    {},
                    config.modulesToSave()};
    if (!fs::exists(adapter.weights))
        throw InputError("{}: {} is missing, so the adapter has no weights; fetch it again", folder.string(), kWeightsName);
    TensorSorter sorter(adapter.weights.string());
    for (TensorInfo& tensor : readWeightHeader(File::openForReading(adapter.weights)).tensors) sorter.add(std::move(tensor));
    for (auto& [module, factors] : sorter.modules())
        adapter.updates.emplace(module + ".weight", makeUpdate(module, std::move(factors), config, adapter));
    adapter.replacements = std::move(sorter.replacements());
    if (adapter.updates.empty() && adapter.replacements.empty())
        throw InputError("{}: holds no tensors", adapter.weights.string());
    return adapter;
}

}  // namespace aimerge
