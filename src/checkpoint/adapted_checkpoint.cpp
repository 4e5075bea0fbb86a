// The part of Checkpoint that puts an adapter over a base model.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/architecture/parameter_name.h"
#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kLlama = "LlamaForCausalLM";

bool hasTokenizer(const std::filesystem::path& folder) {
    return exists(folder / "tokenizer.json") || exists(folder / "tokenizer.model");
}

bool isOfModule(std::string_view parameter, const std::string& end) {
    const std::string_view module = moduleOfWeight(parameter);
    return module == end || module.ends_with("." + end);
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

void Checkpoint::apply(Adapter adapter) {
    const std::size_t file = addFile(adapter.weights);
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
    const auto embedding = std::ranges::find(tensors_, kEmbedding, &TensorInfo::name);
    if (embedding == tensors_.end() || std::ranges::find(tensors_, kHead, &TensorInfo::name) != tensors_.end()) return;
    const auto isSaved = [&](const char* parameter) {
        return std::ranges::any_of(adapter.modulesToSave,
                                   [&](const std::string& end) { return isOfModule(parameter, end); });
    };
    const bool storesHead = std::ranges::find(adapter.replacements, kHead, &TensorInfo::name) != adapter.replacements.end();
    if (adapter.updates.contains(kHead))
        throw InputError(
            "{}: has factors for {}, which {} ties to the embeddings: PEFT would change both; merge this adapter into its "
            "base "
            "with PEFT (merge_and_unload)",
            adapter.weights.string(), kHead, folder_.string());
    if (!storesHead && !isSaved(kEmbedding)) return;
    TensorInfo head = *embedding;
    head.name = kHead;
    tensors_.push_back(std::move(head));
    modelConfig_.tieWordEmbeddings = false;
    config_["tie_word_embeddings"] = false;
}

void Checkpoint::replaceTensor(TensorInfo replacement, const Adapter& adapter) {
    const auto target = std::ranges::find(tensors_, replacement.name, &TensorInfo::name);
    if (target == tensors_.end())
        throw InputError("{}: stores {} in full, which {} does not have; the adapter is for another model",
                         adapter.weights.string(), replacement.name, folder_.string());
    const Shape& expected = target->shape;
    const bool fits =
        replacement.shape == expected || (isVocabularyTensor(replacement.name) && replacement.shape.size() == 2 &&
                                          expected.size() == 2 && replacement.shape[1] == expected[1]);
    if (!fits)
        throw InputError("{}: stores {} with shape {}, but it has {} in {}", adapter.weights.string(), replacement.name,
                         shapeText(replacement.shape), shapeText(expected), folder_.string());
    if (replacement.name == kEmbedding && replacement.shape != expected) {
        modelConfig_.vocabSize = replacement.shape[0];
        config_["vocab_size"] = replacement.shape[0];
    }
    *target = std::move(replacement);
}

void Checkpoint::checkUpdate(const std::string& parameter, const LowRankUpdate& update, const Adapter& adapter) const {
    const TensorInfo* target = find(parameter);
    if (!target)
        throw InputError("{}: tensor {} is for {}, which {} does not have; the adapter is for another model",
                         adapter.weights.string(), update.a.name, parameter, folder_.string());
    const bool isEmbedding = parameter == kEmbedding;
    if (update.transposed && !isEmbedding && modelConfig_.architecture == kLlama)
        throw InputError(
            "{}: fan_in_fan_out is true, but the layers of a {} store [out, in]; PEFT ignores it. Set it to false",
            adapter.configFile, kLlama);
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
