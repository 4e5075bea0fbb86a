#include "aimerge/checkpoint/adapter.h"

#include "adapter_config.h"
#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/checkpoint/peft_merge.h"
#include "aimerge/checkpoint/weight_header.h"
#include "aimerge/core/error.h"
#include "aimerge/safetensors/weight_files.h"

#include <spdlog/spdlog.h>

#include <string_view>
#include <utility>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfigName = "adapter_config.json";
constexpr const char* kWeightsName = "adapter_model.safetensors";
constexpr const char* kTorchWeightsName = "adapter_model.bin";
constexpr const char* kTrainingArguments = "training_args.bin";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kBaseLayer = ".base_layer";

/// What PEFT wraps a module in whose parameters are stored in full; the name of the module is without it.
constexpr std::string_view kFullWrappers[] = {".base_layer.", ".token_adapter.", ".ln_tuning_layers."};

/// The names under which the copies of a module that is stored in full are saved beside it, when all that begins with its
/// name is. PEFT does not load them.
constexpr std::string_view kCopies[] = {".modules_to_save.", ".original_module."};

enum class Factor { A, B, Magnitude };
enum class Layer { Linear, Embedding };

struct FactorName {
    std::string_view suffix;
    Factor factor;
    std::optional<Layer> layer;  // nullopt: either
};

constexpr FactorName kFactorNames[] = {{".lora_A.weight", Factor::A, Layer::Linear},
                                       {".lora_B.weight", Factor::B, Layer::Linear},
                                       {".lora_embedding_A", Factor::A, Layer::Embedding},
                                       {".lora_embedding_B", Factor::B, Layer::Embedding},
                                       {".lora_magnitude_vector", Factor::Magnitude, std::nullopt},
                                       {".lora_magnitude_vector.weight", Factor::Magnitude, std::nullopt}};

constexpr std::string_view kTokenRows[] = {".token_adapter.trainable_tokens_delta", ".trainable_tokens_delta"};

/// The factors of one module, as far as they have been met.
struct Factors {
    std::optional<TensorInfo> a, b, magnitude;
    Layer layer = Layer::Linear;

    const TensorInfo& any() const { return a ? *a : b ? *b : *magnitude; }
};

bool namesModel(const std::string& text) {
    std::error_code ignored;
    return fs::is_directory(text, ignored) || isHubName(text);
}

/// Sorts the tensors of the weight files into factors by module, rows of tokens, and parameters stored in full.
class TensorSorter {
public:
    explicit TensorSorter(std::string file) : file_(std::move(file)) {}

    void add(TensorInfo tensor) {
        const std::string rest = withoutWrappers(tensor.name);
        for (const FactorName& factor : kFactorNames)
            if (rest.ends_with(factor.suffix)) return addFactor(rest, factor, std::move(tensor));
        if (rest.ends_with(kMergedSuffix)) {
            requireMergeable(tensor);
            mergedValues_.emplace(rest.substr(0, rest.size() - std::string_view(kMergedSuffix).size()), std::move(tensor));
            return;
        }
        for (const std::string_view suffix : kTokenRows) {
            if (!rest.ends_with(suffix)) continue;
            requireMergeable(tensor);
            tokenRows_.emplace(rest.substr(0, rest.size() - suffix.size()), std::move(tensor));
            return;
        }
        addReplacement(rest, std::move(tensor));
    }

    /// By module, the outermost of nested layers first. @throws InputError when some are missing
    std::map<std::string, std::vector<Factors>> modules() {
        std::map<std::string, std::vector<Factors>> result;
        for (auto& [place, factors] : modules_) {
            const auto& [module, depth] = place;
            std::vector<Factors>& nested = result[module];
            if (depth != nested.size())
                throw InputError(
                    "{}: tensor {} is in a layer around a layer that has no factors; save the adapter again "
                    "(save_pretrained)",
                    file_, factors.any().name);
            nested.push_back(std::move(factors));
        }
        return result;
    }

    std::map<std::string, TensorInfo>& tokenRows() { return tokenRows_; }        // by module
    std::map<std::string, TensorInfo>& mergedValues() { return mergedValues_; }  // by parameter

    /// @throws InputError when a copy is there without what it is a copy of
    std::vector<TensorInfo> replacements() const {
        std::vector<TensorInfo> result;
        for (const auto& [name, tensor] : replacements_) result.push_back(tensor);
        for (const auto& [name, copy] : copies_)
            if (!replacements_.contains(name))
                throw InputError("{}: has {}, but not {}{}, which PEFT loads; save the adapter again (save_pretrained)",
                                 file_, copy, kPrefix, name);
        return result;
    }

    /// What stands before the names beyond "base_model.model."; empty: nothing.
    const std::string& wrappers() const { return wrappers_; }

private:
    /// The name in the model: what training programs put before all names is no part of it.
    std::string withoutWrappers(const std::string& name) {
        std::string_view rest = name;
        bool isPeft = false;
        for (std::string_view wrapper = wrapperOf(rest); !wrapper.empty(); wrapper = wrapperOf(rest)) {
            isPeft = isPeft || wrapper == kPrefix;
            rest.remove_prefix(wrapper.size());
        }
        if (!isPeft)
            throw InputError("{}: tensor {} is not of an adapter, expected names that begin with {}", file_, name, kPrefix);
        const std::string before = name.substr(0, name.size() - rest.size());
        if (before != kPrefix) wrappers_ = before;
        return std::string(rest);
    }

    void requireMergeable(const TensorInfo& tensor) const {
        if (!isMergeable(tensor.dtype))
            throw InputError("{}: tensor {} is {}, expected BF16, F16, F32 or F64", file_, tensor.name,
                             safetensorsName(tensor.dtype));
    }

    void addFactor(const std::string& name, const FactorName& kind, TensorInfo tensor) {
        requireMergeable(tensor);
        std::string module = name.substr(0, name.size() - kind.suffix.size());
        std::size_t depth = 0;
        for (; module.ends_with(kBaseLayer); ++depth) module.resize(module.size() - kBaseLayer.size());
        Factors& factors = modules_[{module, depth}];
        const bool isFirst = !factors.a && !factors.b;
        if (kind.layer && !isFirst && factors.layer != *kind.layer)
            throw InputError("{}: {} has factors of a linear layer and of an embedding", file_, module);
        if (kind.layer) factors.layer = *kind.layer;
        std::optional<TensorInfo>& place = kind.factor == Factor::A   ? factors.a
                                           : kind.factor == Factor::B ? factors.b
                                                                      : factors.magnitude;
        if (place) throw InputError("{}: tensors {} and {} are the same one", file_, place->name, tensor.name);
        place = std::move(tensor);
    }

    void addReplacement(std::string parameter, TensorInfo tensor) {
        if (parameter.find(".lora_") != std::string::npos)
            throw InputError(
                "{}: tensor {} is called neither as PEFT saves factors (...lora_A.weight, ...lora_B.weight) nor as a "
                "parameter of a model, so PEFT would not load it. Save the adapter with PEFT's save_pretrained, which takes "
                "the adapter's own name (\"default\") out of the names",
                file_, tensor.name);
        for (const std::string_view copy : kCopies) {
            const std::size_t at = parameter.rfind(copy);
            if (at == std::string::npos) continue;
            parameter.erase(at, copy.size() - 1);
            copies_.emplace(std::move(parameter), tensor.name);
            return;
        }
        for (const std::string_view wrapper : kFullWrappers)
            if (const std::size_t at = parameter.rfind(wrapper); at != std::string::npos)
                parameter.erase(at, wrapper.size() - 1);
        tensor.name = parameter;
        if (!replacements_.emplace(parameter, std::move(tensor)).second)
            throw InputError("{}: stores {} twice", file_, parameter);
    }

    std::string file_;
    std::map<std::pair<std::string, std::size_t>, Factors> modules_;  // module, how many layers are around its own
    std::map<std::string, TensorInfo> tokenRows_, mergedValues_;
    std::map<std::string, TensorInfo> replacements_;  // by parameter
    std::map<std::string, std::string> copies_;       // by parameter: the copy's name in the file
    std::string wrappers_;
};

/// Turns what the sorter found into an adapter's updates.
class UpdateMaker {
public:
    UpdateMaker(const AdapterConfig& config, Adapter& adapter)
        : config_(config), adapter_(adapter), file_(adapter.weights.front().string()) {}

    void addModule(const std::string& module, std::vector<Factors> nested) {
        std::vector<TargetParameter> candidates = config_.targetParametersOf(module);
        if (nested.size() == 1 && (candidates.empty() || config_.namesModule(module))) {
            requireTarget(module, nested.front());
            LowRankUpdate update = makeUpdate(nested.front());
            requireRank(update, config_.rankOf(module));
            update.scaling = config_.scalingOf(module);
            adapter_.updates.emplace(module + ".weight", std::move(update));
            return;
        }
        if (candidates.empty())
            throw InputError(
                "{}: tensor {} is of a layer around another one, but target_parameters of {} has no parameters of {}", file_,
                nested.front().any().name, kConfigName, module);
        TargetedFactors targeted{std::move(candidates), {}, config_.targetsInAxisOrder()};
        for (Factors& factors : nested) targeted.nested.push_back(makeUpdate(factors));
        adapter_.targeted.emplace(module, std::move(targeted));
    }

    void addTokenRows(const std::string& module, TensorInfo rows) {
        std::vector<std::int64_t> tokens = config_.tokensOf(module);
        if (tokens.empty())
            throw InputError(
                "{}: tensor {} has rows of tokens, but {} does not say which tokens of {} they are "
                "(trainable_token_indices, or token_indices)",
                file_, rows.name, adapter_.configFile, module);
        if (rows.shape.size() != 2 || rows.shape[0] != static_cast<std::int64_t>(tokens.size()))
            throw InputError("{}: tensor {} has shape {}, but {} names {} tokens", file_, rows.name, shapeText(rows.shape),
                             adapter_.configFile, tokens.size());
        const auto [other, isNew] = adapter_.updates.emplace(module + ".weight", TokenRows{rows, std::move(tokens)});
        if (!isNew) throw InputError("{}: {} has factors and rows of tokens, which PEFT refuses", file_, module);
    }

private:
    LowRankUpdate makeUpdate(Factors& factors) const {
        if (!factors.a || !factors.b)
            throw InputError("{}: tensor {} has no {} beside it; save the adapter again (save_pretrained)", file_,
                             factors.any().name, factors.a ? "B" : "A");
        for (const TensorInfo* tensor : {&*factors.a, &*factors.b})
            if (tensor->shape.size() != 2 || tensor->elements() == 0)
                throw InputError("{}: tensor {} has shape {}, expected a matrix", file_, tensor->name,
                                 shapeText(tensor->shape));
        LowRankUpdate update{std::move(*factors.a), std::move(*factors.b)};
        update.outputs = update.b.shape[0];
        update.inputs = update.a.shape[1];
        update.transposed = factors.layer == Layer::Embedding || config_.fanInFanOut();
        if (config_.usesDora() != factors.magnitude.has_value())
            throw InputError("{}: use_dora of {} is {}, but tensor {} has {} beside it", file_, kConfigName,
                             config_.usesDora(), update.a.name,
                             factors.magnitude ? "a lora_magnitude_vector" : "no lora_magnitude_vector");
        if (factors.magnitude && factors.magnitude->elements() != update.outputs)
            throw InputError("{}: tensor {} has shape {}, expected the {} outputs of {}", file_, factors.magnitude->name,
                             shapeText(factors.magnitude->shape), update.outputs, update.b.name);
        update.magnitude = std::move(factors.magnitude);
        return update;
    }

    void requireRank(const LowRankUpdate& update, std::int64_t rank) const {
        for (const auto& [tensor, axis] : {std::pair(&update.a, 0u), std::pair(&update.b, 1u)})
            if (tensor->shape[axis] != rank)
                throw InputError("{}: tensor {} has shape {}, but {} gives it rank {} (r or rank_pattern)", file_,
                                 tensor->name, shapeText(tensor->shape), adapter_.configFile, rank);
    }

    void requireTarget(const std::string& module, const Factors& factors) const {
        if (const std::string_view key = config_.keyThatExcludes(module); !key.empty())
            throw InputError(
                "{}: tensor {} belongs to a module that {} of {} leaves as it is; PEFT would not apply it. Correct the "
                "config or remove the tensor",
                file_, factors.any().name, key, kConfigName);
    }

    const AdapterConfig& config_;
    Adapter& adapter_;
    std::string file_;
};

/// Weight files that PEFT does not load, sorted.
std::vector<std::string> otherWeights(const fs::path& folder) {
    std::vector<std::string> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        std::string name = entry.path().filename().string();
        const bool isWeights = name.ends_with(".safetensors") || name.ends_with(".bin") || name.ends_with(".pt");
        if (isWeights && name != kWeightsName && name != kTorchWeightsName && name != kTrainingArguments)
            names.push_back(std::move(name));
    }
    std::ranges::sort(names);
    return names;
}

/// What some programs train in full and save beside an adapter, where PEFT does not look.
void sayOtherWeights(const fs::path& folder) {
    const std::vector<std::string> others = otherWeights(folder);
    const auto found = std::ranges::find_if(others, [](const std::string& name) { return name.starts_with("non_lora"); });
    if (found != others.end())
        spdlog::warn("{}: has {} beside the adapter, which neither PEFT nor aimerge loads: parameters in it stay the base's",
                     folder.string(), *found);
}

/// The files with an adapter's tensors.
std::vector<fs::path> weightFiles(const fs::path& folder) {
    if (const std::vector<fs::path> merged = filesMergedByPeft(folder); !merged.empty()) return merged;
    for (const char* name : {kWeightsName, kTorchWeightsName})
        if (fs::exists(folder / name)) return {folder / name};
    const std::vector<std::string> others = otherWeights(folder);
    if (others.empty())
        throw InputError("{}: has neither {} nor {}, so the adapter has no weights; fetch it again", folder.string(),
                         kWeightsName, kTorchWeightsName);
    throw InputError(
        "{}: has no {}, which PEFT loads, but {}{}; if these have the adapter's tensors, write them into one file of that "
        "name",
        folder.string(), kWeightsName, others.front(),
        others.size() > 1 ? fmt::format(" and {} more", others.size() - 1) : "");
}

}  // namespace

Shape LowRankUpdate::shape() const {
    const Shape matrix = transposed ? Shape{inputs, outputs} : Shape{outputs, inputs};
    return experts == 1 || expert ? matrix : Shape{experts, matrix[0], matrix[1]};
}

std::vector<const TensorInfo*> tensorsOf(const ParameterUpdate& update) {
    if (const auto* rows = std::get_if<TokenRows>(&update)) return {&rows->rows};
    if (const auto* merged = std::get_if<MergedValues>(&update)) return {&merged->values};
    const auto& factors = std::get<LowRankUpdate>(update);
    std::vector tensors{&factors.a, &factors.b};
    if (factors.magnitude) tensors.push_back(&*factors.magnitude);
    return tensors;
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

bool holdsAdapter(const fs::path& folder) {
    return fs::exists(folder / kConfigName) && (fs::exists(folder / kWeightsName) || fs::exists(folder / kTorchWeightsName));
}

Adapter readAdapter(const fs::path& folder) {
    if (!fs::exists(folder / kConfigName))
        throw InputError("{}: {} is missing, so this is no adapter", folder.string(), kConfigName);
    const AdapterConfig config = AdapterConfig::read(folder / kConfigName);
    Adapter adapter;
    adapter.folder = folder;
    adapter.config = config.json();
    adapter.configFile = (folder / kConfigName).string();
    adapter.trainedOn = config.trainedOn();
    adapter.modulesToSave = config.modulesToSave();
    adapter.tiesWeights = config.tiesWeights();
    adapter.weights = weightFiles(folder);
    sayOtherWeights(folder);
    TensorSorter sorter(adapter.weights.front().string());
    for (std::size_t file = 0; file < adapter.weights.size(); ++file) {
        for (TensorInfo& tensor : readWeightHeader(File::openForReading(adapter.weights[file])).tensors) {
            tensor.fileIndex = file;
            sorter.add(std::move(tensor));
        }
    }
    if (!sorter.wrappers().empty())
        spdlog::info(
            "{}: its names begin with {}, as a wrapped model is saved, where PEFT has {}; they are taken without it",
            adapter.weights.front().string(), sorter.wrappers(), kPrefix);
    UpdateMaker maker(config, adapter);
    for (auto& [module, nested] : sorter.modules()) maker.addModule(module, std::move(nested));
    for (auto& [module, rows] : sorter.tokenRows()) maker.addTokenRows(module, std::move(rows));
    for (auto& [parameter, values] : sorter.mergedValues())
        adapter.updates.emplace(parameter, MergedValues{std::move(values)});
    adapter.replacements = sorter.replacements();
    if (adapter.updates.empty() && adapter.targeted.empty() && adapter.replacements.empty())
        throw InputError("{}: holds no tensors", adapter.weights.front().string());
    return adapter;
}

}  // namespace aimerge
