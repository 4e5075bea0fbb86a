#include "job/featcal_models.h"

#include "job/merge_job.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/coverage.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

namespace aimerge {
namespace {

/// The entry under `models` of a model; null for a base that is not listed.
const ModelEntry* entryOf(const MergeJob& job, std::size_t model) {
    for (const Slice& slice : job.config.slices)
        for (const ModelEntry& source : slice.sources)
            if (source.model == job.models.models[model].name()) return &source;
    return nullptr;
}

std::optional<std::size_t> modelNamed(const MergeJob& job, const std::string& name) {
    const auto found = std::ranges::find_if(job.models.models, [&](const auto& model) { return model.name() == name; });
    if (found == job.models.models.end()) return std::nullopt;
    return static_cast<std::size_t>(found - job.models.models.begin());
}

FeatcalModel modelOf(const MergeJob& job, const std::string& name) {
    if (const auto model = modelNamed(job, name)) return FeatcalModel(*model);
    return FeatcalModel(job.config.baseModel.empty() ? Checkpoint::open(name)
                                                     : Checkpoint::openOver(job.config.baseModel, name));
}

CalibrationConfig calibrationOf(const MergeJob& job, const FeatcalExpert& expert, std::optional<std::size_t> model) {
    if (expert.calibration) return *expert.calibration;
    if (const CalibrationConfig* calibration = expertCalibration(job.config, model ? entryOf(job, *model) : nullptr))
        return *calibration;
    throw UsageError(
        "{}: featcal runs every expert on texts of its own: give 'calibration' with a text 'corpus' or ready 'token_ids' in "
        "the entry of {}, or at the top of the file for all",
        job.config.featcal->mark.text(), expert.model);
}

std::vector<FeatcalTeacherModel> teachersOf(const MergeJob& job) {
    const FeatcalConfig& featcal = *job.config.featcal;
    std::vector<FeatcalExpert> experts = featcal.experts;
    if (experts.empty())
        for (const std::size_t model : job.experts()) experts.push_back({job.models.models[model].name()});
    std::vector<FeatcalTeacherModel> teachers;
    for (const FeatcalExpert& expert : experts)
        teachers.push_back(
            {modelOf(job, expert.model), calibrationOf(job, expert, modelNamed(job, expert.model)), expert.weight});
    return teachers;
}

/// The base that rho speaks of, and that may be an expert of its own.
std::optional<FeatcalModel> baseOf(const MergeJob& job) {
    const FeatcalConfig& featcal = *job.config.featcal;
    if (featcal.base && !featcal.base->model.empty()) return modelOf(job, featcal.base->model);
    if (job.models.baseIndex) return FeatcalModel(*job.models.baseIndex);
    if (featcal.rho != 1 || featcal.base)
        throw UsageError("{}: featcal.rho and featcal.base need a base: give base_model, or featcal.base.model",
                         featcal.mark.text());
    return std::nullopt;
}

/// @throws InputError when a model's layers are not those of the merge
void requireSameSizes(const MergeJob& job, const FeatcalModels& models, const Checkpoint& model) {
    if (model.modelConfig().layers != job.base().modelConfig().layers)
        throw InputError("{}: has {} layers, the merged model {}; featcal fits models of one size", model.name(),
                         model.modelConfig().layers, job.base().modelConfig().layers);
    for (const std::string& name : models.tensors) {
        const auto output = std::ranges::find(job.outputs, name, &OutputTensor::name);
        const TensorInfo* const own = model.find(name);
        if (own && own->shape == output->shape) continue;
        if (!own && name.ends_with(".bias")) continue;
        throw InputError("{}: tensor {} is {}, but has shape {} in the merged model; featcal fits models of one size",
                         model.name(), name, own ? "of shape " + shapeText(own->shape) : "missing",
                         shapeText(output->shape));
    }
    if (model.modelConfig().vocabSize != job.base().modelConfig().vocabSize)
        throw InputError("{}: has {} tokens, the merged model {}; featcal needs models of one vocabulary", model.name(),
                         model.modelConfig().vocabSize, job.base().modelConfig().vocabSize);
}

/// @throws InputError naming what of the model featcal has no closed form for
void requireFittable(const Checkpoint& model) {
    for (const LayerDescription& layer : decoderOf(model.modelConfig(), model.name()).layers) {
        for (const BlockDescription& block : layer.blocks) {
            const auto* norm = std::get_if<NormDescription>(&block);
            if (norm && (norm->kind == NormKind::Layer || norm->kind == NormKind::LayerShifted))
                throw InputError("{}: {} is a layer norm; featcal fits models whose norms have no mean (RMS norms) only",
                                 model.name(), norm->name);
        }
        for (const ModuleDescription& module : layer.modules())
            if (module.isInputMajor)
                throw InputError("{}: {} is stored as [in, out]; featcal fits matrices stored as [out, in] only",
                                 model.name(), module.name);
    }
}

bool isNamedByFilters(const FeatcalConfig& featcal, const std::string& module) {
    return featcal.modules.empty() || std::ranges::any_of(featcal.modules, [&](const std::string& filter) {
               return module.find(filter) != std::string::npos;
           });
}

std::string moduleOf(const std::string& tensor) {
    return tensor.substr(0, tensor.rfind('.'));
}

}  // namespace

const Checkpoint& FeatcalModel::in(const MergeJob& job) const {
    return own_ ? *own_ : job.models.models[model_];
}

FeatcalModels openFeatcalModels(const MergeJob& job) {
    const FeatcalConfig& featcal = *job.config.featcal;
    const std::string mark = featcal.mark.text();
    if (!job.mergesWholeModels()) throw UsageError("{}: featcal needs whole models, listed as 'models'", mark);
    if (job.realignsVocabulary()) throw UsageError("{}: featcal needs models of one vocabulary", mark);
    requireFittable(job.base());

    FeatcalModels models;
    const StatisticsByModule modules = modulesToMeasure(job.base());
    for (const MatchedTensor& tensor : job.tensors) {
        const Place& place = tensor.parameter.place;
        if (place.part != Part::Layer || place.stack != 0) continue;
        const std::string module = moduleOf(tensor.name);
        if (!modules.contains(module) || !isNamedByFilters(featcal, module)) continue;
        models.tensors.insert(tensor.name);
    }
    if (models.tensors.empty())
        throw UsageError("{}: no module of the layers has {} in its name", mark, fmt::join(featcal.modules, ", "));

    models.teachers = teachersOf(job);
    if (const std::optional<FeatcalModel> base = baseOf(job)) {
        models.base.push_back(*base);
        if (featcal.base && featcal.base->calibration)
            models.teachers.push_back({*base, *featcal.base->calibration, featcal.base->weight});
    }
    if (models.teachers.empty())
        throw UsageError("{}: featcal fits layers to experts, and there are none besides the base; list some", mark);
    for (const FeatcalTeacherModel& teacher : models.teachers) {
        const Checkpoint& model = teacher.model.in(job);
        requireRunnable(model.modelConfig(), model.name());
        requireSameSizes(job, models, model);
        if (teacher.calibration.dtype != models.teachers.front().calibration.dtype)
            throw UsageError("{}: the texts of all experts must be run in one dtype, that of their calibrations", mark);
    }
    for (const FeatcalModel& base : models.base) requireSameSizes(job, models, base.in(job));
    return models;
}

}  // namespace aimerge
