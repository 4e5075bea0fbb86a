#include "job/merge_job.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/core/revision.h"
#include "aimerge/merge/tensor_assembly.h"
#include "aimerge/output/companion_files.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/vocabulary/chat_template.h"

#include <algorithm>
#include <map>

namespace aimerge {
namespace {

/// The dtype all inputs can be held in: their own when it is one, else float32.
Dtype commonDtype(const MatchedTensor& tensor) {
    std::optional<Dtype> common;
    for (const MatchedInput& input : tensor.inputs) {
        if (!input.tensor) continue;
        if (common && *common != input.tensor->dtype) return Dtype::F32;
        common = input.tensor->dtype;
    }
    return *common == Dtype::F64 ? Dtype::F32 : *common;
}

std::optional<Dtype> requestedDtype(const MergeConfig& config) {
    return config.outDtype ? config.outDtype : config.dtype;
}

std::vector<OutputPoint> outputPoints(const MergeConfig& config) {
    if (!config.aim || config.aim->omegaByTensor) return {{"", std::nullopt}};
    if (!config.aim->omegaIsList) return {{"", config.aim->omegas.front()}};
    std::vector<OutputPoint> points;
    for (const double omega : config.aim->omegas) points.push_back({omegaFolderName(omega), omega});
    return points;
}

/// The tokens' rows are those of one table in all of a model's tensors: alignment maps the rows of each alike.
/// @param table the tensor by which each model's rows are counted
void requireRowsOf(const MatchedTensor& table, const ModelSet& models, const std::vector<MatchedTensor>& tensors) {
    const auto rowsOf = [](const TensorInfo& tensor) { return tensor.shape[vocabularyAxis(tensor.shape)]; };
    for (const MatchedTensor& tensor : tensors) {
        if (!tensor.parameter.hasVocabularyRows || tensor.action != MatchedTensor::Action::Merge) continue;
        for (const MatchedInput& input : tensor.inputs) {
            const Checkpoint& model = models.models[input.model];
            const TensorInfo& own = *storedTensor(model, table.name);
            if (input.tensor == nullptr || rowsOf(*input.tensor) == rowsOf(own)) continue;
            throw InputError(
                "{}: tensor {} has shape {}, but {} has {}; expected a row for each token in both. Resize the model with "
                "transformers (resize_token_embeddings)",
                model.files()[input.tensor->fileIndex].string(), input.tensor->name, shapeText(input.tensor->shape),
                own.name, shapeText(own.shape));
        }
    }
}

std::optional<VocabularyAlignment> alignmentOf(const ModelSet& models, const std::vector<MatchedTensor>& tensors,
                                               const VocabularyConfig& config, UnequalVocabularies unequal) {
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [](const MatchedTensor& candidate) {
        return candidate.parameter.hasVocabularyRows && candidate.parameter.role != Role::Bias &&
               candidate.action == MatchedTensor::Action::Merge;
    });
    if (tensor == tensors.end()) return std::nullopt;
    for (const Checkpoint& model : models.models)
        if (!storedTensor(model, tensor->name)) throw InputError("{}: tensor {} is missing", model.name(), tensor->name);
    requireRowsOf(*tensor, models, tensors);

    std::vector<Vocabulary> vocabularies;  // reserved: the inputs point into it
    vocabularies.reserve(models.models.size());
    std::vector<VocabularyInput> inputs;
    for (const Checkpoint& model : models.models) {
        VocabularyInput input{model.name(), storedTensor(model, tensor->name)->shape, nullptr};
        if (config.source != VocabularySource::None)
            input.vocabulary = &vocabularies.emplace_back(Vocabulary::read(model.tokenizerFolder()));
        inputs.push_back(std::move(input));
    }
    return alignVocabularies(inputs, models.referenceIndex(), config, tensor->name, unequal);
}

/// The dtype that most of a model's elements have.
Dtype prevailingDtype(const Checkpoint& model) {
    std::map<Dtype, std::int64_t> elements;
    for (const TensorInfo& tensor : model.tensors())
        if (isMergeable(tensor.dtype)) elements[tensor.dtype] += tensor.elements();
    const auto most = std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; });
    return most == elements.end() ? Dtype::F32 : most->first;
}

/// A parameter that a 16-bit model keeps in float32 (the bias of a router's scores, Mamba's A_log) stays so under `dtype`,
/// by which users say what the model as a whole is; `out_dtype` is for every tensor.
bool staysFloat32(const MergeConfig& config, Dtype prevailing, Dtype stored) {
    return !config.outDtype && stored == Dtype::F32 && bytesPerElement(prevailing) < bytesPerElement(Dtype::F32);
}

std::vector<OutputTensor> outputTensors(const MergeJob& job) {
    const std::optional<Dtype> requested = requestedDtype(job.config);
    const Dtype prevailing = prevailingDtype(job.base());
    std::vector<OutputTensor> outputs;
    for (const MatchedTensor& tensor : job.tensors) {
        const TensorInfo& reference = *tensor.inputs[job.models.slices[tensor.slice].referenceInput()].tensor;
        OutputTensor output{tensor.name, reference.dtype, reference.shape};
        if (tensor.action != MatchedTensor::Action::CopyIdentical && isMergeable(reference.dtype)) {
            const bool asStored = !requested || staysFloat32(job.config, prevailing, reference.dtype);
            output.dtype = asStored ? commonDtype(tensor) : *requested;
        }
        if (job.vocabulary && tensor.action == MatchedTensor::Action::Merge && tensor.parameter.hasVocabularyRows) {
            output.shape[vocabularyAxis(output.shape)] = job.vocabulary->rows;
        }
        outputs.push_back(std::move(output));
    }
    return outputs;
}

/// Files beside the weights are the base's, or the first model's.
void sayCompanionsOf(const MergeJob& job) {
    std::vector<NamedFolder> others;
    for (const Checkpoint& model : job.models.models)
        if (&model != &job.base()) others.push_back({model.name(), model.folder()});
    sayCompanions({job.base().name(), job.base().folder()}, others);
}

/// Layer n of the output is relaxed by the activations of layer n of each expert.
void requireMeasurableExperts(const MergeJob& job) {
    if (job.experts().empty())
        throw UsageError(
            "{}: aim.source measures experts, and there are none besides the base; list some, or use source base",
            job.config.aim->mark.text());
    if (!job.mergesWholeModels())
        throw UsageError("{}: aim.source measures whole experts, listed as 'models'; with 'slices' use source base",
                         job.config.aim->mark.text());
}

/// Its layers are the base's, merged from the models alone.
void requireSequentialJob(const MergeJob& job) {
    const std::string mark = job.config.aim->calibration.mark.text();
    if (!job.mergesWholeModels())
        throw UsageError("{}: aim.calibration.sequential needs whole models, listed as 'models'", mark);
    if (job.realignsVocabulary()) throw UsageError("{}: aim.calibration.sequential needs models of one vocabulary", mark);
    if (job.method->info().needs != ExpertStatistic::None)
        throw UsageError("{}: aim.calibration.sequential needs a method that does not measure the experts; {} does", mark,
                         job.config.method);
}

/// What is calibrated, or measured for the method, is of a kind that the decoder runs.
void requireRunnableModels(const MergeJob& job) {
    const auto require = [](const Checkpoint& model) { requireRunnable(model.modelConfig(), model.name()); };
    const std::optional<AimConfig>& aim = job.config.aim;
    const bool calibratesBase = aim && !aim->usesExperts() && aim->statisticsPath.empty();
    if (calibratesBase) require(job.base());
    if ((aim && aim->usesExperts()) || job.method->info().needs != ExpertStatistic::None)
        for (const std::size_t expert : job.experts()) require(job.models.models[expert]);
}

/// Methods that look at the columns of a matrix [out, in] do not take one that is stored [in, out] for it.
void requireInputAxis(const MergeJob& job) {
    if (!job.method->info().readsColumns) return;
    for (const MatchedTensor& tensor : job.tensors) {
        const Role role = tensor.parameter.role;
        const bool isMatrix = role == Role::Linear || role == Role::Router || role == Role::Experts;
        if (!isMatrix || tensor.action != MatchedTensor::Action::Merge) continue;
        if (!tensor.parameter.inputAxisIsKnown || tensor.parameter.inputAxis != -1)
            throw UsageError("{}: {} reads the columns of matrices [out, in], but {} {}; merge this model by another method",
                             job.config.methodMark.text(), job.config.method, tensor.name,
                             tensor.parameter.inputAxisIsKnown ? "is stored as [in, out]"
                                                               : "does not tell which of its axes is the input");
    }
}

/// Where rows of tokens change places, all that has one per token is known: an embedding, a head, its bias.
void requireKnownVocabulary(const MergeJob& job) {
    if (!job.realignsVocabulary()) return;
    const std::int64_t tokens = job.models.output.vocabularySize();
    for (const MatchedTensor& tensor : job.tensors) {
        const bool isKnown = tensor.parameter.hasVocabularyRows || tensor.parameter.place.part == Part::Layer;
        if (isKnown || tensor.action != MatchedTensor::Action::Merge) continue;
        const Shape& shape = tensor.inputs[job.models.slices[tensor.slice].referenceInput()].tensor->shape;
        if (std::ranges::find(shape, tokens) != shape.end())
            throw InputError(
                "{}: tensor {} has shape {}, with as many elements along an axis as the vocabulary has tokens, but it is no "
                "embedding, head "
                "or bias of a head, so its tokens cannot be brought together; merge models of one vocabulary",
                job.base().name(), tensor.name, shapeText(shape));
    }
}

/// A value that changes over depth needs layers: where none are known, every tensor would get the first.
void requireDepth(const MergeJob& job) {
    if (!job.models.output.stacks().empty()) return;
    const auto refuse = [&](const ParameterSetting& setting) {
        for (const ConditionalValue& condition : setting.conditions)
            if (condition.values.size() > 1)
                throw UsageError(
                    "{}: '{}' is a gradient over the layers, but config.json and tensor names of {} tell no layers; give "
                    "one value",
                    setting.mark.text(), setting.name, job.base().name());
    };
    const auto refuseAll = [&](const ParameterMap& parameters) {
        for (const auto& [name, setting] : parameters) refuse(setting);
    };
    refuseAll(job.config.parameters);
    for (const auto& [module, parameters] : job.config.moduleParameters) refuseAll(parameters);
    for (const Slice& slice : job.config.slices) {
        refuseAll(slice.parameters);
        for (const ModelEntry& source : slice.sources) refuseAll(source.parameters);
    }
    if (job.config.aim && job.config.aim->omegaByTensor) refuse(*job.config.aim->omegaByTensor);
}

}  // namespace

Dtype MergeJob::outputDtype() const {
    if (const std::optional<Dtype> requested = requestedDtype(config)) return *requested;
    const auto merged =
        std::find_if(outputs.begin(), outputs.end(), [](const OutputTensor& output) { return isMergeable(output.dtype); });
    return merged == outputs.end() ? base().modelConfig().dtype.value_or(Dtype::F32) : merged->dtype;
}

bool MergeJob::realignsVocabulary() const {
    return vocabulary && !std::ranges::all_of(vocabulary->maps, [](const RowMap& map) { return map.isIdentity(); });
}

std::vector<std::size_t> MergeJob::experts() const {
    std::vector<std::size_t> experts;
    for (std::size_t i = 0; i < models.models.size(); ++i) {
        if (models.baseIndex != i) experts.push_back(i);
    }
    return experts;
}

std::set<double> MergeJob::omegasOf(const OutputPoint& point) const {
    if (point.omega) return {*point.omega};
    std::set<double> omegas;
    if (!config.aim || !config.aim->omegaByTensor) return omegas;
    for (const MatchedTensor& tensor : tensors)
        if (tensor.action == MatchedTensor::Action::Merge) omegas.insert(tensorOmega(*config.aim, tensor).value());
    return omegas;
}

std::map<std::string, int> MergeJob::revisions() const {
    std::map<std::string, int> revisions{{"merged_values", revision::kMergedValues}};
    const bool calibrates = config.aim && config.aim->statisticsPath.empty();
    const bool measures = method->info().needs != ExpertStatistic::None || (calibrates && config.aim->usesSensitivity());
    if (calibrates) revisions["statistics"] = revision::kStatistics;
    if (measures) revisions["expert_statistics"] = revision::kExpertStatistics;
    if (calibrates || measures || featcal) revisions["token_blocks"] = revision::kTokenBlocks;
    if (featcal) revisions["featcal"] = revision::kFeatcal;
    return revisions;
}

std::vector<const Checkpoint*> MergeJob::expertCheckpoints() const {
    std::vector<const Checkpoint*> checkpoints;
    for (const std::size_t expert : experts()) checkpoints.push_back(&models.models[expert]);
    return checkpoints;
}

std::vector<const Checkpoint*> MergeJob::checkpoints() const {
    std::vector<const Checkpoint*> checkpoints;
    for (const Checkpoint& model : models.models) checkpoints.push_back(&model);
    if (!featcal) return checkpoints;
    for (const FeatcalTeacherModel& teacher : featcal->teachers)
        if (teacher.model.isOwn()) checkpoints.push_back(&teacher.model.in(*this));
    for (const FeatcalModel& base : featcal->base)
        if (base.isOwn()) checkpoints.push_back(&base.in(*this));
    return checkpoints;
}

MergeJob openMergeJob(MergeConfig config, std::uint64_t maxShardBytes) {
    MergeJob job;
    job.method = &findMethod(config.method, config.methodMark);
    job.config = std::move(config);
    job.models = ModelSet::open(job.config);
    sayCompanionsOf(job);
    if (job.config.aim && job.config.aim->usesExperts()) requireMeasurableExperts(job);
    job.tensors = matchTensors(job.models);
    job.vocabulary = alignmentOf(job.models, job.tensors, job.config.vocabulary, job.method->info().unequalVocabularies);
    if (job.isSequential()) requireSequentialJob(job);
    requireRunnableModels(job);
    requireInputAxis(job);
    requireKnownVocabulary(job);
    requireDepth(job);
    if (!job.config.chatTemplate.empty()) {
        std::vector<std::filesystem::path> folders;
        for (const Checkpoint& model : job.models.models) folders.push_back(model.tokenizerFolder());
        job.chatTemplate = chatTemplateOf(job.config.chatTemplate, job.config.chatTemplateMark, folders);
    }
    job.outputs = outputTensors(job);
    job.points = outputPoints(job.config);
    job.layout = layOutShards(job.outputs, maxShardBytes);
    if (job.config.featcal) job.featcal = openFeatcalModels(job);
    for (const MatchedTensor& tensor : job.tensors) {
        if (tensor.action == MatchedTensor::Action::Merge) tensorParameters(*job.method, job.config, job.models, tensor);
    }
    return job;
}

std::string jobDigest(const MergeJob& job, const std::string& statisticsDigest, const std::string& expertKeys) {
    Hasher hasher;
    for (const auto& [kind, number] : job.revisions()) hasher.updateField(fmt::format("{} {}", kind, number));
    hasher.updateField(job.config.text).updateField(statisticsDigest).updateField(expertKeys);
    for (const Checkpoint& model : job.models.models) {
        hasher.updateField(model.headerDigest().hex()).updateField(model.identityStamps());
    }
    if (job.featcal)
        for (const FeatcalTeacherModel& teacher : job.featcal->teachers) {
            const Checkpoint& model = teacher.model.in(job);
            if (teacher.model.isOwn()) hasher.updateField(model.headerDigest().hex()).updateField(model.identityStamps());
        }
    if (job.featcal)
        for (const FeatcalModel& base : job.featcal->base)
            if (base.isOwn())
                hasher.updateField(base.in(job).headerDigest().hex()).updateField(base.in(job).identityStamps());
    for (const OutputShard& shard : job.layout.shards) hasher.updateField(shard.fileName).updateField(shard.header);
    return hasher.digest().hex();
}

}  // namespace aimerge
