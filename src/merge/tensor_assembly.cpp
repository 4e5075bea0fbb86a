#include "aimerge/merge/tensor_assembly.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/resolve_parameters.h"
#include "merge/relaxation/expert_importance.h"
#include "merge/relaxation/importance.h"

#include <cmath>
#include <cstring>
#include <functional>

namespace aimerge {
namespace {

InputView viewOf(const ModelSet& models, const MatchedInput& input) {
    return {&models.models.at(input.model), input.tensor};
}

std::shared_ptr<const TensorSource> sourceOf(const ModelSet& models, const MatchedTensor& matched, const MatchedInput& input,
                                             const VocabularyAlignment* alignment) {
    const bool asItStands =
        !alignment || !matched.parameter.hasVocabularyRows || alignment->maps.at(input.model).isIdentity();
    if (asItStands) return directSource(viewOf(models, input));
    std::vector<InputView> views;
    for (const Checkpoint& model : models.models) views.push_back({&model, storedTensor(model, matched.name)});
    return alignedSource(input.model, std::move(views), alignment->maps[input.model]);
}

/// A tensor whose inputs may have other numbers than the output.
bool isInLayer(const MatchedTensor& matched) {
    return matched.parameter.place.isNumbered();
}

/// What the method needs to know of the parameter in each of its inputs. Empty for a parameter without Gram matrices.
std::vector<std::shared_ptr<const TensorSource>> statisticsOf(ExpertStatistic needs, const ModelSet& models,
                                                              const MatchedTensor& matched,
                                                              const std::vector<std::size_t>& inputs,
                                                              std::span<const ExpertStatistics> experts) {
    std::vector<std::shared_ptr<const TensorSource>> sources;
    for (const std::size_t input : inputs) {
        const auto& [model, tensor] = matched.inputs[input];
        if (needs == ExpertStatistic::Fisher) {
            sources.push_back(experts[model].elementsOf(tensor->name, tensor->shape));
            continue;
        }
        const std::string module(moduleOf(isInLayer(matched) ? tensor->name : matched.name));
        if (auto gram = experts[model].gramOf(models.output.moduleWithSameInput(module), tensor->shape))
            sources.push_back(std::move(gram));
    }
    if (!sources.empty() && sources.size() != inputs.size())
        throw InputError("{}: only {} of {} models have a Gram matrix for it", matched.name, sources.size(), inputs.size());
    return sources;
}

/// The mean over the outputs of each channel of the last axis. [in_features]
std::vector<float> channelMeans(const TensorSource& source, const Shape& shape) {
    const auto channels = static_cast<std::size_t>(shape.back());
    const std::int64_t rows = elementCount(shape) / shape.back();
    std::vector<double> sums(channels);
    std::vector<float> row(channels);
    for (std::int64_t r = 0; r < rows; ++r) {
        source.fetch(r * shape.back(), std::as_writable_bytes(std::span(row)));
        for (std::size_t c = 0; c < channels; ++c) sums[c] += static_cast<double>(row[c]);
    }
    for (std::size_t c = 0; c < channels; ++c) row[c] = static_cast<float>(sums[c] / static_cast<double>(rows));
    return row;
}

/// |w| times the root mean square of its input, in float32: the score by which Wanda prunes (Sun et al. 2023, arXiv
/// 2306.11695), but for the number of tokens, which is the same for all.
class WandaSource : public TensorSource {
public:
    /// @param inputRms [matrices, channels] of `layout`
    WandaSource(std::shared_ptr<const TensorSource> weights, std::vector<float> inputRms, const ChannelLayout& layout)
        : TensorSource(weights->origin(), Dtype::F32),
          weights_(std::move(weights)),
          inputRms_(std::move(inputRms)),
          layout_(layout) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        std::vector<float> values = weights_->values(first, out.size() / sizeof(float));
        for (float& value : values) value = std::fabs(value) * inputRms_[layout_.indexOf(first++)];
        std::memcpy(out.data(), values.data(), out.size());
    }

private:
    std::shared_ptr<const TensorSource> weights_;
    std::vector<float> inputRms_;
    ChannelLayout layout_;
};

/// An expert whose change from the base is held back, in float32.
class RelaxedSource : public TensorSource {
public:
    RelaxedSource(std::shared_ptr<const TensorSource> expert, std::shared_ptr<const TensorSource> base,
                  Relaxation relaxation)
        : TensorSource(expert->origin(), Dtype::F32),
          expert_(std::move(expert)),
          base_(std::move(base)),
          relaxation_(std::move(relaxation)) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        const std::size_t count = out.size() / sizeof(float);
        std::vector<float> values = expert_->values(first, count);
        relaxation_.apply(first, base_->values(first, count), values, values);
        std::memcpy(out.data(), values.data(), out.size());
    }

private:
    std::shared_ptr<const TensorSource> expert_, base_;
    Relaxation relaxation_;
};

/// What holds the tensor's change back: nothing, or an importance per channel or element.
/// @param base of the tensor, as the merge reads it
void setImportance(const AimConfig& aim, const ModelSet& models, const MatchedTensor& matched, const Activity& activity,
                   const std::function<std::shared_ptr<const TensorSource>()>& base, TensorMerge& merge) {
    const std::string name = nameInBase(models, matched);
    const Architecture& architecture = models.output;
    const bool headIsWritten = models.headIsWritten();
    merge.scalesWhole = aim.control == AimControl::Scale;
    const StatisticsByModule& statistics = activity.statistics.front();
    const RelaxedBy by = relaxedBy(architecture, name, merge.shape, aim, statistics, headIsWritten);
    if (!aim.usesSensitivity()) {
        merge.importance = importanceOf(architecture, name, merge.shape, aim, statistics, headIsWritten);
        if (aim.statistic != Statistic::Wanda || !merge.importance) return;
        auto scores = std::make_shared<WandaSource>(
            base(), inputStatistic(architecture, name, merge.shape, by.module, aim, statistics), merge.importance->layout);
        merge.elementImportance = ElementImportance{std::move(scores), &aim};
        merge.importance.reset();
        return;
    }
    if (by.treatment == Treatment::OfAnotherKind) return;
    // For a head that is tied in the base, the embedding has the gradient.
    const std::string& parameter = matched.inputs.at(models.slices[matched.slice].baseInput.value()).tensor->name;
    auto gradients = activity.sensitivity->elementsOf(parameter, merge.shape);
    if (aim.statistic == Statistic::Sensitivity)
        merge.elementImportance = ElementImportance{std::move(gradients), &aim};
    else
        merge.importance = ChannelImportance{importanceOfChannels(by.module, channelMeans(*gradients, merge.shape), aim),
                                             ChannelLayout::of(merge.shape, -1)};
}

/// Nothing when the expert's tensor takes part as it is.
std::optional<Relaxation> relaxationOfExpert(const AimConfig& aim, const ModelSet& models, const MatchedTensor& matched,
                                             std::size_t input, const Activity& activity, const Shape& shape) {
    const std::optional<double> ofTensor = tensorOmega(aim, matched), omega = ofTensor ? ofTensor : activity.omega;
    if (!omega) return std::nullopt;
    const std::size_t model = matched.inputs[input].model;
    const bool isBehindBase = models.baseIndex && *models.baseIndex < model;
    const StatisticsByModule& own = activity.statistics[isBehindBase ? model - 1 : model];
    const auto importance =
        importanceOf(models.output, nameInBase(models, matched), shape, aim, own, models.headIsWritten());
    if (!importance) return std::nullopt;
    return Relaxation(*importance, *omega, DeltaRounding::None);
}

}  // namespace

std::string nameInBase(const ModelSet& models, const MatchedTensor& matched) {
    if (!isInLayer(matched)) return matched.name;
    return matched.inputs.at(models.slices[matched.slice].baseInput.value()).tensor->name;
}

std::optional<double> tensorOmega(const AimConfig& aim, const MatchedTensor& matched) {
    return aim.omegaByTensor ? aim.omegaByTensor->number(matched.name, matched.depth) : std::nullopt;
}

ResolvedParameters tensorParameters(const Method& method, const MergeConfig& config, const ModelSet& models,
                                    const MatchedTensor& matched) {
    const TensorMethod used = methodFor(method, models.slices[matched.slice], matched);
    // What it is not the config's method for has none of the config's values.
    if (used.method != &method) return {.shared = {0}, .perInput = {{1}}, .seed = config.seed};
    std::vector<InputPlace> inputs;
    for (const std::size_t input : used.inputs)
        inputs.push_back({input, isInLayer(matched) ? matched.inputs[input].tensor->name : matched.name});
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
                          const Activity* activity, std::span<const ExpertStatistics> experts) {
    TensorMerge merge;
    merge.name = matched.name;
    merge.parameter = matched.parameter;
    merge.shape = output.shape;
    merge.dtype = output.dtype;
    const TensorMethod used = methodFor(method, models.slices[matched.slice], matched);
    merge.method = used.method;
    merge.parameters = tensorParameters(method, config, models, matched);
    merge.parts = models.output.partsOf(matched.name, output.shape);
    std::vector<std::shared_ptr<const TensorSource>> sources(matched.inputs.size());
    const auto source = [&](std::size_t input) {
        if (!sources[input]) sources[input] = sourceOf(models, matched, matched.inputs[input], alignment);
        return sources[input];
    };
    const ModelSlice& slice = models.slices[matched.slice];
    const auto base = [&] { return source(slice.baseInput.value()); };
    const bool relaxesExperts = activity && config.aim->relaxesExperts();
    if (activity && !relaxesExperts) {
        setImportance(*config.aim, models, matched, *activity, base, merge);
        merge.omega = tensorOmega(*config.aim, matched);
    }
    for (const std::size_t input : used.inputs) {
        std::optional<Relaxation> relaxation;
        if (relaxesExperts && input != slice.baseInput)
            relaxation = relaxationOfExpert(*config.aim, models, matched, input, *activity, merge.shape);
        merge.inputs.push_back(relaxation ? std::make_shared<RelaxedSource>(source(input), base(), *std::move(relaxation))
                                          : source(input));
    }
    const MethodInfo& info = used.method->info();
    if (info.needs != ExpertStatistic::None)
        merge.statistics = statisticsOf(info.needs, models, matched, used.inputs, experts);
    const bool takesBase = readsBase(info.base) && slice.baseInput;
    if (takesBase || merge.importance || merge.elementImportance) merge.base = base();
    return merge;
}

InputReading inputReading(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const VocabularyAlignment* alignment) {
    InputReading read;
    const ModelSlice& slice = models.slices[matched.slice];
    if (matched.action != MatchedTensor::Action::Merge) {
        for (std::size_t input = 0; input < matched.inputs.size(); ++input)
            if (matched.inputs[input].tensor) read.inputs.push_back(input);
        return read;
    }
    const TensorMethod used = methodFor(method, slice, matched);
    read.inputs = used.inputs;
    const bool takesBase = (readsBase(used.method->info().base) || config.aim) && slice.baseInput;
    if (takesBase && std::ranges::find(read.inputs, *slice.baseInput) == read.inputs.end())
        read.inputs.push_back(*slice.baseInput);
    // An importance of single elements has a largest one, which is looked for first; an expert
    // that is relaxed reads the base.
    const bool relaxesAgain = config.aim && (config.aim->relaxesExperts() || config.aim->isPerElement() ||
                                             config.aim->control == AimControl::Scale);
    const bool isAligned = alignment && matched.parameter.hasVocabularyRows &&
                           !std::ranges::all_of(alignment->maps, [](const RowMap& map) { return map.isIdentity(); });
    if (relaxesAgain || isAligned || used.method->passesOver(tensorParameters(method, config, models, matched)))
        read.reading = Reading::Repeated;
    read.endsWithOnePass = !isAligned && !(config.aim && config.aim->relaxesExperts());
    return read;
}

TensorCopy assembleCopy(const ModelSet& models, const MatchedTensor& matched, const OutputTensor& output) {
    const std::size_t reference = models.slices[matched.slice].referenceInput();
    TensorCopy copy{matched.name, output.dtype, {viewOf(models, matched.inputs[reference])}};
    if (matched.action == MatchedTensor::Action::CopyFromBase) return copy;
    for (std::size_t input = 0; input < matched.inputs.size(); ++input)
        if (input != reference && matched.inputs[input].tensor) copy.inputs.push_back(viewOf(models, matched.inputs[input]));
    return copy;
}

}  // namespace aimerge
