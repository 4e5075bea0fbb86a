#include "aimerge/merge/tensor_assembly.h"

#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/resolve_parameters.h"

namespace aimerge {
namespace {

InputView viewOf(const ModelSet& models, const MatchedInput& input) {
    return {&models.models.at(input.model), input.tensor};
}

std::shared_ptr<const TensorSource> sourceOf(const ModelSet& models, const MatchedTensor& matched, const MatchedInput& input,
                                             const VocabularyAlignment* alignment) {
    const bool asItStands = !alignment || !isVocabularyTensor(matched.name) || alignment->maps.at(input.model).isIdentity();
    if (asItStands) return directSource(viewOf(models, input));
    std::vector<InputView> views;
    for (const Checkpoint& model : models.models) views.push_back({&model, storedTensor(model, matched.name)});
    return alignedSource(input.model, std::move(views), alignment->maps[input.model]);
}

/// The name along whose activations a tensor is relaxed: the base's, which counts its layers by itself.
std::string nameInBase(const ModelSet& models, const MatchedTensor& matched) {
    if (placeOf(matched.name).part != Part::Layer) return matched.name;
    return matched.inputs.at(models.slices[matched.slice].baseInput.value()).tensor->name;
}

}  // namespace

ResolvedParameters tensorParameters(const Method& method, const MergeConfig& config, const ModelSet& models,
                                    const MatchedTensor& matched) {
    const bool isInLayer = placeOf(matched.name).part == Part::Layer;
    std::vector<InputPlace> inputs;
    for (const std::size_t input : methodInputs(method.info(), models.slices[matched.slice]))
        inputs.push_back({input, isInLayer ? matched.inputs[input].tensor->name : matched.name});
    const TensorPlace place{matched.name, matched.depth, matched.slice};
    ResolvedParameters values = resolveParameters(method.info(), config, inputs, place);
    if (const auto problem = method.check(values)) {
        std::optional<std::size_t> source;
        if (problem->input && inputs[*problem->input].input < config.slices[matched.slice].sources.size())
            source = inputs[*problem->input].input;
        const std::string& parameter = method.info().parameters[problem->parameter].name;
        const ParameterSetting* setting = findParameter(config, parameter, source, place);
        throw UsageError("{}: {}: {}", (setting ? setting->mark : config.methodMark).text(), matched.name, problem->text);
    }
    return values;
}

TensorMerge assembleMerge(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const OutputTensor& output, const VocabularyAlignment* alignment,
                          const StatisticsByModule* statistics) {
    TensorMerge merge{matched.name, output.shape, output.dtype, &method, tensorParameters(method, config, models, matched),
                      {},           {},           {},           {}};
    if (statistics)
        merge.importance =
            importanceOf(nameInBase(models, matched), output.shape, config.aim.value(), *statistics, models.headIsWritten());

    std::vector<std::shared_ptr<const TensorSource>> sources(matched.inputs.size());
    const auto source = [&](std::size_t input) {
        if (!sources[input]) sources[input] = sourceOf(models, matched, matched.inputs[input], alignment);
        return sources[input];
    };
    const ModelSlice& slice = models.slices[matched.slice];
    for (const std::size_t input : methodInputs(method.info(), slice)) merge.inputs.push_back(source(input));
    const bool takesBase = method.info().base != BaseUse::Ordinary && slice.baseInput;
    if (takesBase || merge.importance) merge.base = source(slice.baseInput.value());
    return merge;
}

TensorCopy assembleCopy(const ModelSet& models, const MatchedTensor& matched, const OutputTensor& output) {
    const std::size_t reference = models.slices[matched.slice].referenceInput();
    TensorCopy copy{matched.name, output.dtype, {viewOf(models, matched.inputs[reference])}};
    if (matched.action == MatchedTensor::Action::CopyFromBase) return copy;
    for (std::size_t input = 0; input < matched.inputs.size(); ++input)
        if (input != reference) copy.inputs.push_back(viewOf(models, matched.inputs[input]));
    return copy;
}

}  // namespace aimerge
