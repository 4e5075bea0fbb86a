// The part of Checkpoint that puts an adapter over a base model.

#include "aimerge/architecture/name_mapping.h"
#include "aimerge/checkpoint/adapter.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "checkpoint/first_names.h"
#include "target_parameters.h"

#include <algorithm>
#include <variant>

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

const ParameterUpdate* Checkpoint::updateOf(const TensorInfo& tensor) const {
    if (!adapter_) return nullptr;
    const auto update = adapter_->updates.find(tensor.name);
    return update == adapter_->updates.end() ? nullptr : &update->second;
}

void Checkpoint::takeNames(Adapter& adapter) const {
    const NameMapping mapping(architecture_, tensors_);
    std::map<std::string, ParameterUpdate> updates;
    for (auto& [parameter, update] : adapter.updates)
        updates.emplace(mapping.find(parameter).value_or(parameter), std::move(update));
    adapter.updates = std::move(updates);
    for (TensorInfo& replacement : adapter.replacements)
        replacement.name = mapping.find(replacement.name).value_or(replacement.name);
}

void Checkpoint::takeFiles(Adapter& adapter) {
    const std::size_t first = files_.size();
    for (const std::filesystem::path& path : adapter.weights) addFile(path);
    const auto shift = [&](TensorInfo& tensor) { tensor.fileIndex += first; };
    for (TensorInfo& replacement : adapter.replacements) shift(replacement);
    for (auto& [parameter, update] : adapter.updates) {
        if (auto* rows = std::get_if<TokenRows>(&update)) {
            shift(rows->rows);
        } else if (auto* merged = std::get_if<MergedValues>(&update)) {
            shift(merged->values);
        } else {
            auto& factors = std::get<LowRankUpdate>(update);
            shift(factors.a);
            shift(factors.b);
            if (factors.magnitude) shift(*factors.magnitude);
        }
    }
}

void Checkpoint::apply(Adapter adapter) {
    takeNames(adapter);
    assignTargetParameters(adapter, architecture_, tensors_);
    takeFiles(adapter);
    checkSavedModules(adapter);
    leaveOutTiedHead(adapter);
    untieHead(adapter);
    for (const TensorInfo& replacement : adapter.replacements) replaceTensor(replacement, adapter);
    indexTensors();
    for (const auto& [parameter, update] : adapter.updates) {
        const TensorInfo& target = requireTarget(parameter, update, adapter);
        if (const auto* rows = std::get_if<TokenRows>(&update))
            checkTokens(target, *rows, adapter);
        else if (const auto* factors = std::get_if<LowRankUpdate>(&update))
            checkFactors(target, *factors, adapter);
    }
    adapter_ = std::make_shared<Adapter>(std::move(adapter));
}

bool Checkpoint::isHeadTied() const {
    const auto has = [&](const std::string& name) {
        return std::ranges::find(tensors_, name, &TensorInfo::name) != tensors_.end();
    };
    return has(architecture_.embedding()) && !has(architecture_.head());
}

void Checkpoint::leaveOutTiedHead(Adapter& adapter) const {
    if (!isHeadTied()) return;
    const std::string &embedding = architecture_.embedding(), &head = architecture_.head();
    const auto rowsOf = [&](const std::string& parameter) {
        const auto update = adapter.updates.find(parameter);
        return update == adapter.updates.end() ? nullptr : std::get_if<TokenRows>(&update->second);
    };
    const auto isStored = [&](const std::string& parameter) {
        return std::ranges::find(adapter.replacements, parameter, &TensorInfo::name) != adapter.replacements.end();
    };
    const TokenRows *ofEmbedding = rowsOf(embedding), *ofHead = rowsOf(head);
    const bool sharesRows = ofEmbedding && ofHead && ofEmbedding->tokens == ofHead->tokens;
    const bool sharesTable = adapter.tiesWeights && isStored(embedding) && isStored(head);
    if (sharesRows) adapter.updates.erase(head);
    if (sharesRows || sharesTable)
        std::erase_if(adapter.replacements, [&](const TensorInfo& tensor) { return tensor.name == head; });
}

void Checkpoint::untieHead(const Adapter& adapter) {
    if (!isHeadTied()) return;
    const std::string &embeddingName = architecture_.embedding(), &headName = architecture_.head();
    const auto isSaved = [&](const std::string& parameter) {
        return std::ranges::any_of(adapter.modulesToSave,
                                   [&](const std::string& end) { return isOfModule(parameter, end); });
    };
    const bool storesHead =
        std::ranges::find(adapter.replacements, headName, &TensorInfo::name) != adapter.replacements.end();
    if (const auto update = adapter.updates.find(headName); update != adapter.updates.end())
        throw InputError(
            "{0}: tensor {1} changes {2}, which {3} ties to the embeddings. PEFT's merge_and_unload makes this change to "
            "the "
            "one matrix that both share, besides any change of the embeddings, which is not the model that was trained. "
            "Give "
            "the base a head of its own (store a copy of the embeddings as {2} and set tie_word_embeddings to false): then "
            "each gets its own change",
            adapter.weights.front().string(), tensorsOf(update->second).front()->name, headName, folder_.string());
    if (!storesHead && (adapter.tiesWeights || !isSaved(embeddingName))) return;
    TensorInfo head = *std::ranges::find(tensors_, embeddingName, &TensorInfo::name);
    head.name = headName;
    tensors_.push_back(std::move(head));
    modelConfig_.tieWordEmbeddings = false;
    setUntied(config_);
}

void Checkpoint::replaceTensor(TensorInfo replacement, const Adapter& adapter) {
    const auto target = std::ranges::find(tensors_, replacement.name, &TensorInfo::name);
    if (target == tensors_.end())
        throw InputError(
            "{}: stores {} in full, which {} does not have; name the base that it was trained on. The tensors there are {}",
            adapter.weights.front().string(), replacement.name, folder_.string(), firstNames(*this));
    const Shape& expected = target->shape;
    const bool fits = replacement.shape == expected ||
                      (architecture_.isVocabularyTensor(replacement.name, expected) && replacement.shape.size() == 2 &&
                       expected.size() == 2 && replacement.shape[1] == expected[1]);
    if (!fits)
        throw InputError("{}: stores {} with shape {}, but it has {} in {}", adapter.weights.front().string(),
                         replacement.name, shapeText(replacement.shape), shapeText(expected), folder_.string());
    if (replacement.name == architecture_.embedding() && replacement.shape != expected) {
        modelConfig_.vocabSize = replacement.shape[0];
        setVocabularySize(config_, replacement.shape[0]);
    }
    *target = std::move(replacement);
}

const TensorInfo& Checkpoint::requireTarget(const std::string& parameter, const ParameterUpdate& update,
                                            const Adapter& adapter) const {
    const TensorInfo* target = find(parameter);
    const std::string& changes = tensorsOf(update).front()->name;
    if (!target)
        throw InputError(
            "{}: tensor {} is for {}, which {} does not have; name the base that it was trained on. The tensors there are "
            "{}",
            adapter.weights.front().string(), changes, parameter, folder_.string(), firstNames(*this));
    if (!isMergeable(target->dtype))
        throw InputError("{}: tensor {} changes {}, which is {} in {}; expected BF16, F16, F32 or F64",
                         adapter.weights.front().string(), changes, parameter, safetensorsName(target->dtype),
                         folder_.string());
    return *target;
}

void Checkpoint::checkFactors(const TensorInfo& target, const LowRankUpdate& update, const Adapter& adapter) const {
    const bool storesOutIn = architecture_.family() && architecture_.describe(target).inputAxis == -1;
    if (update.transposed && update.experts == 1 && target.name != architecture_.embedding() && storesOutIn)
        throw InputError(
            "{}: fan_in_fan_out is true, but the layers of a {} store [out, in]; PEFT ignores it. Set it to false",
            adapter.configFile, architecture_.className());
    if (target.shape != update.shape())
        throw InputError("{}: tensors {} {} and {} {} change a parameter of shape {}, but {} has {} in {}",
                         adapter.weights.front().string(), update.a.name, shapeText(update.a.shape), update.b.name,
                         shapeText(update.b.shape), shapeText(update.shape()), target.name, shapeText(target.shape),
                         folder_.string());
}

void Checkpoint::checkTokens(const TensorInfo& target, const TokenRows& update, const Adapter& adapter) const {
    if (target.shape.size() != 2 || update.rows.shape[1] != target.shape[1])
        throw InputError("{}: tensor {} has shape {}, rows of {}, which has {} in {}", adapter.weights.front().string(),
                         update.rows.name, shapeText(update.rows.shape), target.name, shapeText(target.shape),
                         folder_.string());
    if (const std::int64_t last = std::ranges::max(update.tokens); last >= target.shape[0])
        throw InputError(
            "{}: names token {}, but {} has {} rows in {}; where tokens were added before training, save the "
            "adapter with the larger table (save_embedding_layers)",
            adapter.configFile, last, target.name, target.shape[0], folder_.string());
}

void Checkpoint::checkSavedModules(const Adapter& adapter) const {
    for (const std::string& end : adapter.modulesToSave) {
        for (const TensorInfo& tensor : tensors_) {
            if (!isOfModule(tensor.name, end)) continue;
            if (std::ranges::find(adapter.replacements, tensor.name, &TensorInfo::name) == adapter.replacements.end())
                throw InputError("{}: {} is missing, although modules_to_save of adapter_config.json has \"{}\"",
                                 adapter.weights.front().string(), tensor.name, end);
        }
    }
}

}  // namespace aimerge
