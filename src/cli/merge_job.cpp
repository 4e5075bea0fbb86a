#include "cli/merge_job.h"

#include "aimerge/vocabulary/chat_template.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/architecture/parameter_name.h"
#include "aimerge/core/error.h"
#include "aimerge/core/version.h"
#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>

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

std::optional<VocabularyAlignment> alignmentOf(const ModelSet& models, const std::vector<MatchedTensor>& tensors,
                                               const VocabularyConfig& config, UnequalVocabularies unequal) {
    const auto tensor = std::find_if(tensors.begin(), tensors.end(), [](const MatchedTensor& candidate) {
        return isVocabularyTensor(candidate.name) && candidate.action == MatchedTensor::Action::Merge;
    });
    if (tensor == tensors.end()) return std::nullopt;
    for (const Checkpoint& model : models.models)
        if (!storedTensor(model, tensor->name)) throw InputError("{}: tensor {} is missing", model.name(), tensor->name);

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

std::vector<OutputTensor> outputTensors(const MergeJob& job) {
    const std::optional<Dtype> requested = requestedDtype(job.config);
    std::vector<OutputTensor> outputs;
    for (const MatchedTensor& tensor : job.tensors) {
        const TensorInfo& reference = *tensor.inputs[job.models.slices[tensor.slice].referenceInput()].tensor;
        OutputTensor output{tensor.name, reference.dtype, reference.shape};
        if (tensor.action != MatchedTensor::Action::CopyIdentical && isMergeable(reference.dtype)) {
            output.dtype = requested.value_or(commonDtype(tensor));
        }
        if (job.vocabulary && tensor.action == MatchedTensor::Action::Merge && isVocabularyTensor(tensor.name)) {
            output.shape[0] = job.vocabulary->rows;
        }
        outputs.push_back(std::move(output));
    }
    return outputs;
}

/// Layer n of the output is layer n of every model.
bool mergesWholeModels(const MergeConfig& config) {
    return config.slices.size() == 1 && config.slices.front().wholeModels;
}

/// Layer n of the output is relaxed by the activations of layer n of each expert.
void requireMeasurableExperts(const MergeJob& job) {
    if (!mergesWholeModels(job.config))
        throw UsageError("{}: aim.source measures whole experts, listed as 'models'; with 'slices' use source base",
                         job.config.aim->mark.text());
}

/// Its layers are the base's, merged from the models alone.
void requireSequentialJob(const MergeJob& job) {
    const std::string mark = job.config.aim->calibration.mark.text();
    if (!mergesWholeModels(job.config))
        throw UsageError("{}: aim.calibration.sequential goes with whole models, listed as 'models'", mark);
    const bool isRealigned =
        job.vocabulary && !std::ranges::all_of(job.vocabulary->maps, [](const RowMap& map) { return map.isIdentity(); });
    if (isRealigned) throw UsageError("{}: aim.calibration.sequential goes with models of one vocabulary", mark);
    if (job.method->info().needs != ExpertStatistic::None)
        throw UsageError("{}: aim.calibration.sequential goes with methods that do not measure the experts; {} does", mark,
                         job.config.method);
}

}  // namespace

Dtype MergeJob::outputDtype() const {
    if (const std::optional<Dtype> requested = requestedDtype(config)) return *requested;
    const auto merged =
        std::find_if(outputs.begin(), outputs.end(), [](const OutputTensor& output) { return isMergeable(output.dtype); });
    return merged == outputs.end() ? base().modelConfig().dtype.value_or(Dtype::F32) : merged->dtype;
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

std::vector<const Checkpoint*> MergeJob::expertCheckpoints() const {
    std::vector<const Checkpoint*> checkpoints;
    for (const std::size_t expert : experts()) checkpoints.push_back(&models.models[expert]);
    return checkpoints;
}

MergeJob openMergeJob(MergeConfig config, std::uint64_t maxShardBytes) {
    MergeJob job;
    job.method = &findMethod(config.method, config.methodMark);
    job.config = std::move(config);
    job.models = ModelSet::open(job.config);
    if (job.config.aim && job.config.aim->usesExperts()) requireMeasurableExperts(job);
    job.tensors = matchTensors(job.models);
    job.vocabulary = alignmentOf(job.models, job.tensors, job.config.vocabulary, job.method->info().unequalVocabularies);
    if (job.isSequential()) requireSequentialJob(job);
    if (!job.config.chatTemplate.empty()) {
        std::vector<std::filesystem::path> folders;
        for (const Checkpoint& model : job.models.models) folders.push_back(model.tokenizerFolder());
        job.chatTemplate = chatTemplateOf(job.config.chatTemplate, job.config.chatTemplateMark, folders);
    }
    job.outputs = outputTensors(job);
    job.points = outputPoints(job.config);
    job.layout = layOutShards(job.outputs, maxShardBytes);
    for (const MatchedTensor& tensor : job.tensors) {
        if (tensor.action == MatchedTensor::Action::Merge) tensorParameters(*job.method, job.config, job.models, tensor);
    }
    return job;
}

std::string jobDigest(const MergeJob& job, const std::string& statisticsDigest, const std::string& expertKeys) {
    Hasher hasher;
    hasher.updateField(kVersion).updateField(job.config.text).updateField(statisticsDigest).updateField(expertKeys);
    for (const Checkpoint& model : job.models.models) {
        hasher.updateField(model.headerDigest().hex()).updateField(model.identityStamps());
    }
    for (const OutputShard& shard : job.layout.shards) hasher.updateField(shard.fileName).updateField(shard.header);
    return hasher.digest().hex();
}

}  // namespace aimerge
