#include "aimerge/checkpoint/model_set.h"
#include "aimerge/config/parameter_lookup.h"
#include "aimerge/core/error.h"
#include "checkpoint/first_names.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace aimerge {
namespace {

using Action = MatchedTensor::Action;

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
    Place place = {};  // of layers, the number is within the slice; of whole models, within the stack
};

/// A tensor that stands beside the layers of the module whose slices take them apart.
std::size_t sliceOutsideLayers(const ModelModule& module, const Place& place, const Checkpoint& model,
                               const std::string& name) {
    if (module.slices == 1 || place.part == Part::BeforeLayers) return module.firstSlice;
    if (place.part == Part::Aside)
        throw InputError(
            "{}: whether tensor {} stands before or behind the layers is not understood, so no slice can be chosen for it; "
            "merge "
            "whole models, or one slice",
            model.name(), name);
    return module.firstSlice + module.slices - 1;
}

/// What an input calls the tensor of `place`.
std::string nameInInput(const ModelSet& set, const SliceInput& input, const OutputPlace& place) {
    const Checkpoint& model = set.models[input.model];
    if (place.place.part == Part::Layer) return set.output.withLayer(place.name, input.firstLayer + place.place.layer);
    if (place.place.part != Part::Prediction || !place.place.isNumbered()) return place.name;
    const Stack& stack = set.output.stacks()[place.place.stack];
    const Stack* const own = findStackLike(model.architecture(), stack);
    return own ? set.output.withLayer(place.name, own->layers + place.place.layer) : place.name;
}

/// The output tensor that a tensor of an input of slice number `number` is part of; nullopt when it is of none.
std::optional<OutputPlace> outputPlaceOf(const ModelSet& set, std::size_t number, const SliceInput& input,
                                         const std::string& name) {
    const ModelSlice& slice = set.slices[number];
    const Checkpoint& model = set.models[input.model];
    const Architecture& own = model.architecture();
    Place place = own.placeOf(name);
    if ((place.part != Part::Aside || place.isWithin) && !own.stacks().empty()) {
        // Stacks are counted as the reference has them.
        const Stack* const stack = findStackLike(set.output, own.stacks()[place.stack]);
        if (stack)
            place.stack = static_cast<std::size_t>(stack - set.output.stacks().data());
        else
            place = {};
    }
    const std::size_t owner = set.moduleOf(place);
    if (slice.module != owner) return std::nullopt;
    const ModelModule& module = set.modules[owner];
    if (module.wholeModels || module.isCopied) return OutputPlace{name, number, place};
    if (place.part == Part::Layer) {
        place.layer -= input.firstLayer;
        if (place.layer < 0 || place.layer >= slice.layers) return std::nullopt;
        return OutputPlace{set.output.withLayer(name, slice.firstLayer + place.layer), number, place};
    }
    if (sliceOutsideLayers(module, place, model, name) != number) return std::nullopt;
    if (place.part == Part::Prediction && place.isNumbered())
        return OutputPlace{set.output.withLayer(name, set.output.stacks()[place.stack].layers + place.layer), number, place};
    return OutputPlace{name, number, place};
}

/// The places of the reference models of all slices, in model order.
std::vector<OutputPlace> outputPlaces(const ModelSet& set) {
    std::vector<OutputPlace> places;
    for (std::size_t number = 0; number < set.slices.size(); ++number) {
        const SliceInput& reference = set.slices[number].inputs[set.slices[number].referenceInput()];
        for (const TensorInfo& tensor : set.models[reference.model].tensors()) {
            if (isDerivable(tensor.name, tensor.shape)) continue;
            if (auto place = outputPlaceOf(set, number, reference, tensor.name)) places.push_back(*std::move(place));
        }
    }
    const std::string& head = set.output.head();
    if (set.headIsWritten() && std::ranges::find(places, head, &OutputPlace::name) == places.end())
        places.push_back({head, static_cast<std::size_t>(&set.lastSlice() - set.slices.data()), set.output.placeOf(head)});
    set.output.sortInModelOrder(places, [](const OutputPlace& place) { return std::string_view(place.name); });
    return places;
}

/// What keeps a tensor of a model from the reference's, in words for a message.
std::string whyUnknown(const Checkpoint& model, const TensorInfo& tensor, const Checkpoint& reference) {
    const auto hasExperts = [](const Checkpoint& of, bool fused) {
        return std::ranges::any_of(of.tensors(), [&](const TensorInfo& candidate) {
            const Parameter parameter = of.architecture().describe(candidate);
            return fused ? parameter.role == Role::Experts : parameter.expert >= 0;
        });
    };
    const Parameter parameter = model.architecture().describe(tensor);
    const bool isFused = parameter.role == Role::Experts;
    if ((isFused || parameter.expert >= 0) && hasExperts(reference, !isFused))
        return fmt::format(
            "the one has the experts of a layer in one tensor, the other one by one. Load and save both with one version of "
            "transformers (save_pretrained)");
    const auto& own = model.architecture().stacks();
    const auto& others = reference.architecture().stacks();
    if (!own.empty() && !others.empty() && own.front().prefix != others.front().prefix)
        return fmt::format(
            "the layers are {}N here and {}N there. If both are of one architecture, load and save both with one version of "
            "transformers (save_pretrained)",
            own.front().prefix, others.front().prefix);
    const auto lacking = std::ranges::find_if(reference.tensors(), [&](const TensorInfo& other) {
        const Place place = reference.architecture().placeOf(other.name);
        return place.part == parameter.place.part && place.layer == parameter.place.layer &&
               !isDerivable(other.name, other.shape) && storedTensor(model, other.name) == nullptr;
    });
    if (lacking != reference.tensors().end())
        return fmt::format(
            "which in turn has {}. If both are of one architecture, load and save both with one version of transformers "
            "(save_pretrained)",
            lacking->name);
    return "so there is nothing to merge it with; remove it from the model, choose a base that has it, or leave it out by "
           "--allow-crimes";
}

void rejectUnknownTensors(const ModelSet& set) {
    Tally dropped, predictions, unknown;
    std::string hasPredictions;
    for (const Checkpoint& model : set.models)
        for (const TensorInfo& tensor : model.tensors())
            if (isDerivable(tensor.name, tensor.shape)) dropped.add(tensor.name);
    for (std::size_t number = 0; number < set.slices.size(); ++number) {
        const ModelSlice& slice = set.slices[number];
        const SliceInput& referenceInput = slice.inputs[slice.referenceInput()];
        const Checkpoint& reference = set.models[referenceInput.model];
        for (const SliceInput& input : slice.inputs) {
            const Checkpoint& model = set.models[input.model];
            for (const TensorInfo& tensor : model.tensors()) {
                if (isDerivable(tensor.name, tensor.shape) || tensor.name == set.output.head()) continue;
                const auto place = outputPlaceOf(set, number, input, tensor.name);
                if (!place || reference.find(nameInInput(set, referenceInput, *place)) != nullptr) continue;
                if (place->place.part == Part::Prediction) {
                    predictions.add(tensor.name);
                    hasPredictions = model.name();
                    continue;
                }
                if (!set.allowsCrimes)
                    throw InputError("{}: tensor {} is not in {}, {}. Its tensors are {}; there they are {}",
                                     fileOf(model, tensor), tensor.name, reference.name(),
                                     whyUnknown(model, tensor, reference), firstNames(model), firstNames(reference));
                unknown.add(tensor.name);
            }
        }
    }
    if (dropped.count > 0)
        spdlog::info("{} buffers that loaders derive by themselves are left out ({}{})", dropped.count, dropped.first,
                     dropped.count > 1 ? ", ..." : "");
    if (unknown.count > 0)
        spdlog::warn("{} tensors that {} has not are left out ({}{})", unknown.count, set.reference().name(), unknown.first,
                     unknown.count > 1 ? ", ..." : "");
    if (predictions.count > 0)
        spdlog::warn("{}: {} tensors of layers for multi-token prediction are left out, which the base has not ({}{})",
                     hasPredictions, predictions.count, predictions.first, predictions.count > 1 ? ", ..." : "");
}

/// Rows of vocabulary tensors may differ: whether that can be merged is decided by vocabulary alignment.
bool shapesFit(const MatchedTensor& tensor, const Shape& a, const Shape& b) {
    if (a == b) return true;
    if (!tensor.parameter.hasVocabularyRows || a.size() != b.size()) return false;
    Shape rest = a;
    rest[vocabularyAxis(a)] = b[vocabularyAxis(a)];
    return rest == b;
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
        if (found.tensor != nullptr && !shapesFit(tensor, found.tensor->shape, expected.tensor->shape))
            throw InputError("{}: tensor {} has shape {}, but {} in {}", fileOf(set, found), found.tensor->name,
                             shapeText(found.tensor->shape), shapeText(expected.tensor->shape), fileOf(set, expected));
    }
}

[[noreturn]] void refuseDtype(const ModelSet& set, const MatchedInput& input) {
    throw InputError("{}: tensor {} is {}, which cannot be merged; expected BF16, F16, F32 or F64", fileOf(set, input),
                     input.tensor->name, safetensorsName(input.tensor->dtype));
}

/// Either all inputs are of types that can be merged, or all are of one type that is not floating.
Action actionFor(const ModelSet& set, const MatchedTensor& tensor) {
    const MatchedInput& reference = referenceOf(set, tensor);
    const Dtype expected = reference.tensor->dtype;
    for (const MatchedInput& input : tensor.inputs) {
        if (input.tensor == nullptr) continue;
        const Dtype found = input.tensor->dtype;
        if (isFloating(found) && !isMergeable(found)) refuseDtype(set, input);
        const bool sameKind = isFloating(found) ? isFloating(expected) : found == expected;
        if (!sameKind)
            throw InputError(
                "{}: tensor {} is {}, but {} in {}; tensors that are not floating must be the same in all models",
                fileOf(set, input), input.tensor->name, safetensorsName(found), safetensorsName(expected),
                fileOf(set, reference));
    }
    return isFloating(expected) ? Action::Merge : Action::CopyIdentical;
}

/// Types smaller than a byte are not even copied: nothing but readers of headers knows them.
void refusePackedTypes(const ModelSet& set, const MatchedTensor& tensor) {
    constexpr std::size_t kBitsPerByte = 8;
    for (const MatchedInput& input : tensor.inputs)
        if (input.tensor != nullptr && bitsPerElement(input.tensor->dtype) < kBitsPerByte) refuseDtype(set, input);
}

double depthOf(const ModelSet& set, const OutputPlace& place) {
    const ModelSlice& slice = set.slices[place.slice];
    if (place.place.part == Part::Prediction) return 1;
    if (place.place.part != Part::Layer) return depthOfLayer(std::nullopt, 1);
    const ModelModule& module = set.modules[slice.module];
    const bool isWhole = module.wholeModels || module.isCopied;
    const std::int64_t layers = isWhole ? set.output.stacks()[place.place.stack].layers : slice.layers;
    return depthOfLayer(static_cast<int>(place.place.layer), static_cast<int>(layers));
}

MatchedTensor match(const ModelSet& set, const OutputPlace& place) {
    const ModelSlice& slice = set.slices[place.slice];
    MatchedTensor tensor;
    tensor.name = place.name;
    tensor.slice = place.slice;
    tensor.depth = depthOf(set, place);
    for (const SliceInput& input : slice.inputs)
        tensor.inputs.push_back({input.model, storedTensor(set.models[input.model], nameInInput(set, input, place))});
    refusePackedTypes(set, tensor);
    const MatchedInput& reference = referenceOf(set, tensor);
    tensor.parameter = set.output.describe(
        place.name, (reference.tensor ? reference : *std::ranges::find_if(tensor.inputs, [](const MatchedInput& input) {
                        return input.tensor != nullptr;
                    })).tensor->shape);
    if (set.modules[slice.module].isCopied) {
        tensor.action = Action::CopyFromBase;
        return tensor;
    }

    const auto missing = static_cast<std::size_t>(std::ranges::count(tensor.inputs, nullptr, &MatchedInput::tensor));
    const bool isPrediction = place.place.part == Part::Prediction && reference.tensor != nullptr;
    if (missing > 0 && (isPrediction || missing + 1 == tensor.inputs.size())) {
        tensor.action = Action::CopyFromBase;
        const MatchedInput& only = referenceOf(set, tensor);
        if (only.tensor && set.models[only.model].updateOf(*only.tensor))
            throw InputError("{}: the adapter changes {}, which no other model has; merge the adapter into its base first",
                             set.models[only.model].name(), only.tensor->name);
        return tensor;
    }
    const bool mayLack = set.allowsCrimes && reference.tensor != nullptr && !tensor.parameter.hasVocabularyRows;
    if (missing > 0 && !mayLack) {
        const auto lacking = std::ranges::find(tensor.inputs, nullptr, &MatchedInput::tensor);
        throw InputError(
            "{}: tensor {} is missing, but {} of the {} models have it; fetch the model again, or let "
            "--allow-crimes merge those that have it",
            set.models[lacking->model].name(),
            nameInInput(set, slice.inputs[static_cast<std::size_t>(lacking - tensor.inputs.begin())], place),
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
    Tally copied, partial;
    std::string copiedFrom;
    for (const OutputPlace& place : outputPlaces(set)) {
        tensors.push_back(match(set, place));
        const MatchedTensor& tensor = tensors.back();
        if (tensor.action == Action::Merge && std::ranges::count(tensor.inputs, nullptr, &MatchedInput::tensor) > 0)
            partial.add(tensor.name);
        if (tensor.action != Action::CopyFromBase || set.modules[set.slices[tensor.slice].module].isCopied) continue;
        copied.add(tensor.name);
        copiedFrom = set.models[referenceOf(set, tensor).model].name();
    }
    if (partial.count > 0)
        spdlog::warn("{} tensors are not in all models and are merged from those that have them ({}{})", partial.count,
                     partial.first, partial.count > 1 ? ", ..." : "");
    if (copied.count > 0)
        spdlog::warn("{} tensors are only in {} and are copied from it unmerged ({}{})", copied.count, copiedFrom,
                     copied.first, copied.count > 1 ? ", ..." : "");
    return tensors;
}

}  // namespace aimerge
