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

/// What the method needs to know of the parameter in each input. Empty for a parameter without Gram matrices.
std::vector<std::shared_ptr<const TensorSource>> statisticsOf(ExpertStatistic needs, const MatchedTensor& matched,
                                                              const std::vector<std::size_t>& inputs,
                                                              std::span<const ExpertStatistics> experts) {
    std::vector<std::shared_ptr<const TensorSource>> sources;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const TensorInfo& own = *matched.inputs[inputs[i]];
        if (needs == ExpertStatistic::Fisher) {
            sources.push_back(experts[i].fisherOf(own.name, own.shape));
        } else if (auto gram = experts[i].gramOf(matched.name, own.shape)) {
            sources.push_back(std::move(gram));
        }
    }
    if (!sources.empty() && sources.size() != inputs.size())
        throw InputError("{}: only {} of {} models have a Gram matrix for it", matched.name, sources.size(), inputs.size());
    return sources;
}

}  // namespace

TensorMerge assembleMerge(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const OutputTensor& output, const VocabularyAlignment* alignment,
                          const StatisticsByModule* statistics, std::span<const ExpertStatistics> experts) {
    TensorMerge merge{matched.name, output.shape, output.dtype, &method, parametersOf(method, config, models, matched),
                      {},           {},           {},           {}};
    if (statistics)
        merge.importance = importanceOf(matched.name, output.shape, config.aim.value(), *statistics, models.headIsWritten());

    std::vector<std::shared_ptr<const TensorSource>> sources(models.models.size());
    const auto source = [&](std::size_t model) {
        if (!sources[model]) sources[model] = sourceOf(models, matched, model, alignment);
        return sources[model];
    };
    const std::vector<std::size_t> inputs = methodInputs(method.info(), models.models.size(), models.baseIndex);
    for (const std::size_t input : inputs) merge.inputs.push_back(source(input));
    if (method.info().needs != ExpertStatistic::None)
        merge.statistics = statisticsOf(method.info().needs, matched, inputs, experts);
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
