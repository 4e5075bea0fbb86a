#include "aimerge/merge/tensor_assembly.h"

#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/resolve_parameters.h"

namespace aimerge {
namespace {

TensorPlace placeIn(const ModelSet& models, const std::string& name) {
    const Place place = placeOf(name);
    const std::optional<int> layer = place.part == Part::Layer ? std::optional(static_cast<int>(place.layer)) : std::nullopt;
    return {name, depthOfLayer(layer, static_cast<int>(models.reference().modelConfig().layers))};
}

ResolvedParameters parametersOf(const Method& method, const MergeConfig& config, const ModelSet& models,
                                const MatchedTensor& matched) {
    const auto inputs = methodInputs(method.info(), models.models.size(), models.baseIndex);
    const TensorPlace place = placeIn(models, matched.name);
    ResolvedParameters values = resolveParameters(method.info(), config, inputs, place);
    if (const auto problem = method.check(values)) {
        std::optional<std::size_t> model;
        if (problem->input && inputs[*problem->input] < config.models.size()) model = inputs[*problem->input];
        const std::string& parameter = method.info().parameters[problem->parameter].name;
        const ParameterSetting* setting = findParameter(config, parameter, model, place);
        throw UsageError("{}: {}: {}", (setting ? setting->mark : config.methodMark).text(), matched.name, problem->text);
    }
    return values;
}

InputView viewOf(const ModelSet& models, const MatchedTensor& matched, std::size_t model) {
    return {&models.models.at(model), matched.inputs.at(model)};
}

std::shared_ptr<const TensorSource> sourceOf(const ModelSet& models, const MatchedTensor& matched, std::size_t model,
                                             const VocabularyAlignment* alignment) {
    const bool asItStands = !alignment || !isVocabularyTensor(matched.name) || alignment->maps.at(model).isIdentity();
    if (asItStands) return directSource(viewOf(models, matched, model));
    std::vector<InputView> views;
    for (std::size_t i = 0; i < models.models.size(); ++i) views.push_back(viewOf(models, matched, i));
    return alignedSource(model, std::move(views), alignment->maps[model]);
}

}  // namespace

TensorMerge assembleMerge(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const OutputTensor& output, const VocabularyAlignment* alignment,
                          const StatisticsByModule* statistics) {
    TensorMerge merge{matched.name, output.shape, output.dtype, &method, parametersOf(method, config, models, matched),
                      {},           {},           {},           {}};
    if (statistics)
        merge.importance = importanceOf(matched.name, output.shape, config.aim.value(), *statistics, models.headIsWritten());

    std::vector<std::shared_ptr<const TensorSource>> sources(models.models.size());
    const auto source = [&](std::size_t model) {
        if (!sources[model]) sources[model] = sourceOf(models, matched, model, alignment);
        return sources[model];
    };
    for (const std::size_t input : methodInputs(method.info(), models.models.size(), models.baseIndex))
        merge.inputs.push_back(source(input));
    const bool takesBase = method.info().base != BaseUse::Ordinary && models.baseIndex;
    if (takesBase || merge.importance) merge.base = source(models.baseIndex.value());
    return merge;
}

void checkTensorParameters(const Method& method, const MergeConfig& config, const ModelSet& models,
                           const MatchedTensor& matched) {
    parametersOf(method, config, models, matched);
}

TensorCopy assembleCopy(const ModelSet& models, const MatchedTensor& matched, const OutputTensor& output) {
    TensorCopy copy{matched.name, output.dtype, {viewOf(models, matched, models.referenceIndex())}};
    if (matched.action == MatchedTensor::Action::CopyFromBase) return copy;
    for (std::size_t model = 0; model < models.models.size(); ++model)
        if (model != models.referenceIndex()) copy.inputs.push_back(viewOf(models, matched, model));
    return copy;
}

}  // namespace aimerge
