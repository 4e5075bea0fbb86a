// The part of Checkpoint that puts an adapter over a base model.

#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

bool hasTokenizer(const std::filesystem::path& folder) {
    return exists(folder / "tokenizer.json") || exists(folder / "tokenizer.model") ||
           (exists(folder / "vocab.json") && exists(folder / "merges.txt"));
}

bool isOfModule(std::string_view parameter, const std::string& end) {
    const std::string_view module = moduleOf(parameter);
    return module.size() < parameter.size() && (module == end || module.ends_with("." + end));
}

}  // namespace

const std::filesystem::path& Checkpoint::tokenizerFolder() const {
    return adapter_ && hasTokenizer(adapter_->folder) ? adapter_->folder : folder_;
}

const LowRankUpdate* Checkpoint::updateOf(const TensorInfo& tensor) const {
    if (!adapter_) return nullptr;
    const auto update = adapter_->updates.find(tensor.name);
    return update == adapter_->updates.end() ? nullptr : &update->second;
}

void Checkpoint::takeNames(Adapter& adapter) const {
    const NameMapping mapping(architecture_, tensors_);
    std::map<std::string, LowRankUpdate> updates;
    for (auto& [parameter, update] : adapter.updates)
        updates.emplace(mapping.find(parameter).value_or(parameter), std::move(update));
    adapter.updates = std::move(updates);
    for (TensorInfo& replacement : adapter.replacements)
        replacement.name = mapping.find(replacement.name).value_or(replacement.name);
}

void Checkpoint::apply(Adapter adapter) {
    const std::size_t file = addFile(adapter.weights);
    takeNames(adapter);
    for (auto& [parameter, update] : adapter.updates) update.a.fileIndex = update.b.fileIndex = file;
    checkSavedModules(adapter);
    untieHead(adapter);
    for (TensorInfo& replacement : adapter.replacements) {
        replacement.fileIndex = file;
        replaceTensor(replacement, adapter);
    }
    indexTensors();
    for (const auto& [parameter, update] : adapter.updates) checkUpdate(parameter, update, adapter);
    adapter_ = std::move(adapter);
}

void Checkpoint::untieHead(const Adapter& adapter) {
    const std::string &embeddingName = architecture_.embedding(), &headName = architecture_.head();
    const auto embedding = std::ranges::find(tensors_, embeddingName, &TensorInfo::name);
    if (embedding == tensors_.end() || std::ranges::find(tensors_, headName, &TensorInfo::name) != tensors_.end()) return;
    const auto isSaved = [&](const std::string& parameter) {
        return std::ranges::any_of(adapter.modulesToSave,
                                   [&](const std::string& end) { return isOfModule(parameter, end); });
    };
    const bool storesHead =
        std::ranges::find(adapter.replacements, headName, &TensorInfo::name) != adapter.replacements.end();
    if (adapter.updates.contains(headName))
        throw InputError(
            "{}: has factors for {}, which {} ties to the embeddings: PEFT would change both; merge this adapter into its "
            "base "
            "with PEFT (merge_and_unload)",
            adapter.weights.string(), headName, folder_.string());
    if (!storesHead && !isSaved(embeddingName)) return;
    TensorInfo head = *embedding;
    head.name = headName;
    tensors_.push_back(std::move(head));
    modelConfig_.tieWordEmbeddings = false;
    setUntied(config_);
}

void Checkpoint::replaceTensor(TensorInfo replacement, const Adapter& adapter) {
    const auto target = std::ranges::find(tensors_, replacement.name, &TensorInfo::name);
    if (target == tensors_.end())
        throw InputError("{}: stores {} in full, which {} does not have; the adapter is for another model",
                         adapter.weights.string(), replacement.name, folder_.string());
    const Shape& expected = target->shape;
    const bool fits = replacement.shape == expected ||
                      (architecture_.isVocabularyTensor(replacement.name, expected) && replacement.shape.size() == 2 &&
                       expected.size() == 2 && replacement.shape[1] == expected[1]);
    if (!fits)
        throw InputError("{}: stores {} with shape {}, but it has {} in {}", adapter.weights.string(), replacement.name,
                         shapeText(replacement.shape), shapeText(expected), folder_.string());
    if (replacement.name == architecture_.embedding() && replacement.shape != expected) {
        modelConfig_.vocabSize = replacement.shape[0];
        setVocabularySize(config_, replacement.shape[0]);
    }
    *target = std::move(replacement);
}

void Checkpoint::checkUpdate(const std::string& parameter, const LowRankUpdate& update, const Adapter& adapter) const {
    const TensorInfo* target = find(parameter);
    if (!target)
        throw InputError("{}: tensor {} is for {}, which {} does not have; the adapter is for another model",
                         adapter.weights.string(), update.a.name, parameter, folder_.string());
    const bool storesOutIn = architecture_.family() && architecture_.describe(*target).inputAxis == -1;
    if (update.transposed && parameter != architecture_.embedding() && storesOutIn)
        throw InputError(
            "{}: fan_in_fan_out is true, but the layers of a {} store [out, in]; PEFT ignores it. Set it to false",
            adapter.configFile, architecture_.className());
    if (!isMergeable(target->dtype))
        throw InputError("{}: tensor {} changes {}, which is {} in {}; expected BF16, F16, F32 or F64",
                         adapter.weights.string(), update.a.name, parameter, safetensorsName(target->dtype),
                         folder_.string());
    if (target->shape != update.shape())
        throw InputError("{}: tensors {} {} and {} {} change a parameter of shape {}, but {} has {} in {}",
                         adapter.weights.string(), update.a.name, shapeText(update.a.shape), update.b.name,
                         shapeText(update.b.shape), shapeText(update.shape()), parameter, shapeText(target->shape),
                         folder_.string());
}

void Checkpoint::checkSavedModules(const Adapter& adapter) const {
    for (const std::string& end : adapter.modulesToSave) {
        for (const TensorInfo& tensor : tensors_) {
            if (!isOfModule(tensor.name, end)) continue;
            if (std::ranges::find(adapter.replacements, tensor.name, &TensorInfo::name) == adapter.replacements.end())
                throw InputError("{}: {} is missing, although modules_to_save of adapter_config.json has \"{}\"",
                                 adapter.weights.string(), tensor.name, end);
        }
    }
}

}  // namespace aimerge
