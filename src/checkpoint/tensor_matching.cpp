#include "aimerge/checkpoint/model_set.h"
#include "aimerge/architecture/parameter_name.h"
#include "aimerge/config/parameter_lookup.h"
#include "aimerge/core/error.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace aimerge {
namespace {

using Action = MatchedTensor::Action;

constexpr const char* kHead = "lm_head.weight";

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

std::string fileOf(const Checkpoint& model, const TensorInfo& tensor) {
    return model.files()[tensor.fileIndex].string();
}

/// Where in the output a tensor of a slice's reference goes.
struct OutputPlace {
    std::string name;
    std::size_t slice = 0;
    std::optional<std::int64_t> layer = {};  // within the slice
};

/// The slice that a tensor outside of the layers belongs to.
std::size_t sliceOutsideLayers(const ModelSet& set, const std::string& name) {
    const Part part = placeOf(name).part;
    return part == Part::FinalNorm || part == Part::Head ? set.slices.size() - 1 : 0;
}

/// Layer of the slice that a tensor of this input belongs to; nullopt when the slice does not take it.
std::optional<std::int64_t> layerInSlice(const ModelSlice& slice, const SliceInput& input, const std::string& name) {
    const Place place = placeOf(name);
    const std::int64_t layer = place.layer - input.firstLayer;
    if (place.part != Part::Layer || layer < 0 || layer >= slice.layers) return std::nullopt;
    return layer;
}

/// What an input calls the tensor of `place`.
std::string nameInInput(const SliceInput& input, const OutputPlace& place) {
    return place.layer ? withLayer(place.name, input.firstLayer + *place.layer) : place.name;
}

/// The output tensor that a tensor of an input of slice number `number` is part of; nullopt when it is of none.
std::optional<OutputPlace> outputPlaceOf(const ModelSet& set, std::size_t number, const SliceInput& input,
                                         const std::string& name) {
    const ModelSlice& slice = set.slices[number];
    if (placeOf(name).part != Part::Layer) {
        if (sliceOutsideLayers(set, name) != number) return std::nullopt;
        return OutputPlace{name, number};
    }
    const std::optional<std::int64_t> layer = layerInSlice(slice, input, name);
    if (!layer) return std::nullopt;
    return OutputPlace{withLayer(name, slice.firstLayer + *layer), number, layer};
}

/// Of the references of all slices, in model order.
std::vector<OutputPlace> outputPlaces(const ModelSet& set) {
    std::vector<OutputPlace> places;
    for (std::size_t number = 0; number < set.slices.size(); ++number) {
        const SliceInput& reference = set.slices[number].inputs[set.slices[number].referenceInput()];
        for (const TensorInfo& tensor : set.models[reference.model].tensors()) {
            if (isDerivable(tensor)) continue;
            if (auto place = outputPlaceOf(set, number, reference, tensor.name)) places.push_back(*std::move(place));
        }
    }
    const bool hasHead = std::ranges::find(places, kHead, &OutputPlace::name) != places.end();
    if (set.headIsWritten() && !hasHead) places.push_back({kHead, set.slices.size() - 1});
    std::ranges::sort(places, modelOrderLess, &OutputPlace::name);
    return places;
}

void rejectUnknownTensors(const ModelSet& set) {
    Tally dropped;
    for (const Checkpoint& model : set.models)
        for (const TensorInfo& tensor : model.tensors())
            if (isDerivable(tensor)) dropped.add(tensor.name);
    for (std::size_t number = 0; number < set.slices.size(); ++number) {
        const ModelSlice& slice = set.slices[number];
        const SliceInput& referenceInput = slice.inputs[slice.referenceInput()];
        const Checkpoint& reference = set.models[referenceInput.model];
        for (const SliceInput& input : slice.inputs) {
            const Checkpoint& model = set.models[input.model];
            for (const TensorInfo& tensor : model.tensors()) {
                if (isDerivable(tensor) || tensor.name == kHead) continue;
                const auto place = outputPlaceOf(set, number, input, tensor.name);
                if (!place || reference.find(nameInInput(referenceInput, *place)) != nullptr) continue;
                throw InputError(
                    "{}: tensor {} is not in {}, so there is nothing to merge it with; remove it from the model, or "
                    "choose a base that has it",
                    fileOf(model, tensor), tensor.name, reference.name());
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

const MatchedInput& referenceOf(const ModelSet& set, const MatchedTensor& tensor) {
    return tensor.inputs[set.slices[tensor.slice].referenceInput()];
}

std::string fileOf(const ModelSet& set, const MatchedInput& input) {
    return fileOf(set.models[input.model], *input.tensor);
}

void checkShapes(const ModelSet& set, const MatchedTensor& tensor) {
    const MatchedInput& expected = referenceOf(set, tensor);
    for (const MatchedInput& found : tensor.inputs) {
        if (!shapesFit(tensor.name, found.tensor->shape, expected.tensor->shape))
            throw InputError("{}: tensor {} has shape {}, but {} in {}", fileOf(set, found), found.tensor->name,
                             shapeText(found.tensor->shape), shapeText(expected.tensor->shape), fileOf(set, expected));
    }
}

/// Either all inputs are of types that can be merged, or all are of one type that is not floating.
Action actionFor(const ModelSet& set, const MatchedTensor& tensor) {
    const MatchedInput& reference = referenceOf(set, tensor);
    const Dtype expected = reference.tensor->dtype;
    for (const MatchedInput& input : tensor.inputs) {
        const Dtype found = input.tensor->dtype;
        if (isFloating(found) && !isMergeable(found))
            throw InputError("{}: tensor {} is {}, which cannot be merged; expected BF16, F16, F32 or F64",
                             fileOf(set, input), input.tensor->name, safetensorsName(found));
        const bool sameKind = isFloating(found) ? isFloating(expected) : found == expected;
        if (!sameKind)
            throw InputError(
                "{}: tensor {} is {}, but {} in {}; tensors that are not floating must be the same in all models",
                fileOf(set, input), input.tensor->name, safetensorsName(found), safetensorsName(expected),
                fileOf(set, reference));
    }
    return isFloating(expected) ? Action::Merge : Action::CopyIdentical;
}

MatchedTensor match(const ModelSet& set, const OutputPlace& place) {
    const ModelSlice& slice = set.slices[place.slice];
    MatchedTensor tensor;
    tensor.name = place.name;
    tensor.slice = place.slice;
    if (place.layer) tensor.depth = depthOfLayer(static_cast<int>(*place.layer), static_cast<int>(slice.layers));
    for (const SliceInput& input : slice.inputs)
        tensor.inputs.push_back({input.model, storedTensor(set.models[input.model], nameInInput(input, place))});

    const auto missing = static_cast<std::size_t>(std::ranges::count(tensor.inputs, nullptr, &MatchedInput::tensor));
    if (missing > 0 && missing + 1 == tensor.inputs.size()) {
        tensor.action = Action::CopyFromBase;
        const MatchedInput& only = referenceOf(set, tensor);
        if (only.tensor && set.models[only.model].updateOf(*only.tensor))
            throw InputError("{}: the adapter changes {}, which no other model has; merge the adapter into its base first",
                             set.models[only.model].name(), only.tensor->name);
        return tensor;
    }
    if (missing > 0) {
        const auto lacking = std::ranges::find(tensor.inputs, nullptr, &MatchedInput::tensor);
        throw InputError("{}: tensor {} is missing, but {} of the {} models have it; the weights are incomplete",
                         set.models[lacking->model].name(),
                         nameInInput(slice.inputs[static_cast<std::size_t>(lacking - tensor.inputs.begin())], place),
                         tensor.inputs.size() - missing, tensor.inputs.size());
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
    std::string copiedFrom;
    for (const OutputPlace& place : outputPlaces(set)) {
        tensors.push_back(match(set, place));
        const MatchedTensor& tensor = tensors.back();
        if (tensor.action != Action::CopyFromBase) continue;
        copied.add(tensor.name);
        copiedFrom = set.models[referenceOf(set, tensor).model].name();
    }
    if (copied.count > 0)
        spdlog::warn("{} tensors are only in {} and are copied from it unmerged ({}{})", copied.count, copiedFrom,
                     copied.first, copied.count > 1 ? ", ..." : "");
    return tensors;
}

}  // namespace aimerge
