#include "aimerge/checkpoint/model_set.h"
#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace aimerge {
namespace {

using Action = MatchedTensor::Action;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

/// Buffers that loaders compute by themselves and that older versions of transformers stored: rotary frequencies, and the
/// causal masks of GPT-2, which are [1, 1, n, n] where a learned bias has one dimension.
bool isDerivable(const TensorInfo& tensor) {
    const std::string_view name = tensor.name;
    return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".masked_bias") ||
           (name.ends_with(".attn.bias") && tensor.shape.size() == 4);
}

/// Names tensors that get a treatment of their own, for one line at the end.
struct Tally {
    std::size_t count = 0;
    std::string first;

    void add(const std::string& name) {
        if (count++ == 0) first = name;
    }
};

const TensorInfo* inputOf(const Checkpoint& model, const std::string& name) {
    const TensorInfo* tensor = model.find(name);
    return tensor == nullptr && name == kHead ? model.find(kEmbedding) : tensor;
}

std::string fileOf(const Checkpoint& model, const TensorInfo& tensor) {
    return model.files()[tensor.fileIndex].string();
}

/// Names of the output tensors, in model order.
std::vector<std::string> outputNames(const ModelSet& set) {
    std::vector<std::string> names;
    for (const TensorInfo& tensor : set.reference().tensors()) {
        if (!isDerivable(tensor)) names.push_back(tensor.name);
    }
    if (set.headIsWritten() && set.reference().find(kHead) == nullptr)
        names.insert(std::upper_bound(names.begin(), names.end(), kHead, modelOrderLess), kHead);
    return names;
}

void rejectUnknownTensors(const ModelSet& set) {
    Tally dropped;
    for (const Checkpoint& model : set.models) {
        for (const TensorInfo& tensor : model.tensors()) {
            if (isDerivable(tensor)) {
                dropped.add(tensor.name);
            } else if (tensor.name != kHead && set.reference().find(tensor.name) == nullptr) {
                throw InputError(
                    "{}: tensor {} is not in {}, so there is nothing to merge it with; remove it from the model, or "
                    "choose a base that has it",
                    fileOf(model, tensor), tensor.name, set.reference().name());
            }
        }
    }
    if (dropped.count > 0)
        spdlog::info("{} buffers that loaders derive by themselves are left out ({}{})", dropped.count, dropped.first,
                     dropped.count > 1 ? ", ..." : "");
}

/// Rows of vocabulary tensors may differ: whether that can be merged is decided by vocabulary alignment.
bool shapesFit(const std::string& name, const Shape& a, const Shape& b) {
    if (a == b) return true;
    return isVocabularyTensor(name) && a.size() == 2 && b.size() == 2 && a[1] == b[1];
}

void checkShapes(const ModelSet& set, const MatchedTensor& tensor) {
    const TensorInfo& expected = *tensor.inputs[set.referenceIndex()];
    for (std::size_t index = 0; index < set.models.size(); ++index) {
        const TensorInfo& found = *tensor.inputs[index];
        if (!shapesFit(tensor.name, found.shape, expected.shape))
            throw InputError("{}: tensor {} has shape {}, but {} in {}", fileOf(set.models[index], found), tensor.name,
                             shapeText(found.shape), shapeText(expected.shape), fileOf(set.reference(), expected));
    }
}

/// Either all inputs are of types that can be merged, or all are of one type that is not floating.
Action actionFor(const ModelSet& set, const MatchedTensor& tensor) {
    const TensorInfo& expected = *tensor.inputs[set.referenceIndex()];
    for (std::size_t index = 0; index < set.models.size(); ++index) {
        const TensorInfo& found = *tensor.inputs[index];
        if (isFloating(found.dtype) && !isMergeable(found.dtype))
            throw InputError("{}: tensor {} is {}, which cannot be merged; expected BF16, F16, F32 or F64",
                             fileOf(set.models[index], found), tensor.name, safetensorsName(found.dtype));
        const bool sameKind = isFloating(found.dtype) ? isFloating(expected.dtype) : found.dtype == expected.dtype;
        if (!sameKind)
            throw InputError(
                "{}: tensor {} is {}, but {} in {}; tensors that are not floating must be the same in all models",
                fileOf(set.models[index], found), tensor.name, safetensorsName(found.dtype), safetensorsName(expected.dtype),
                fileOf(set.reference(), expected));
    }
    return isFloating(expected.dtype) ? Action::Merge : Action::CopyIdentical;
}

MatchedTensor match(const ModelSet& set, const std::string& name) {
    MatchedTensor tensor;
    tensor.name = name;
    for (const Checkpoint& model : set.models) tensor.inputs.push_back(inputOf(model, name));

    const auto missing = static_cast<std::size_t>(std::count(tensor.inputs.begin(), tensor.inputs.end(), nullptr));
    if (missing > 0 && missing + 1 == set.models.size()) {
        tensor.action = Action::CopyFromBase;
        const TensorInfo* only = tensor.inputs[set.referenceIndex()];
        if (only && set.reference().updateOf(*only))
            throw InputError("{}: the adapter changes {}, which no other model has; merge the adapter into its base first",
                             set.reference().name(), name);
        return tensor;
    }
    if (missing > 0) {
        const auto lacking = std::find(tensor.inputs.begin(), tensor.inputs.end(), nullptr) - tensor.inputs.begin();
        throw InputError("{}: tensor {} is missing, but {} of the {} models have it; the weights are incomplete",
                         set.models[static_cast<std::size_t>(lacking)].name(), name, set.models.size() - missing,
                         set.models.size());
    }
    tensor.action = actionFor(set, tensor);
    checkShapes(set, tensor);
    return tensor;
}

}  // namespace

std::vector<MatchedTensor> matchTensors(const ModelSet& set) {
    rejectUnknownTensors(set);
    std::vector<MatchedTensor> tensors;
    Tally copied;
    for (const std::string& name : outputNames(set)) {
        tensors.push_back(match(set, name));
        if (tensors.back().action == Action::CopyFromBase) copied.add(name);
    }
    if (copied.count > 0)
        spdlog::warn("{} tensors are only in {} and are copied from it unmerged ({}{})", copied.count,
                     set.reference().name(), copied.first, copied.count > 1 ? ", ..." : "");
    return tensors;
}

}  // namespace aimerge
