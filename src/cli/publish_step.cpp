#include "cli/publish_step.h"

#include "aimerge/vocabulary/chat_template.h"
#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/output/model_card.h"
#include "aimerge/architecture/parameter_name.h"
#include "aimerge/output/side_files.h"
#include "aimerge/vocabulary/tokenizer_files.h"
#include "aimerge/core/error.h"
#include "aimerge/core/utc_time.h"
#include "aimerge/core/version.h"
#include "aimerge/merge/resolve_parameters.h"
#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// num_hidden_layers, and lists with a value per layer (layer_types): each layer's is that of its slice's reference model.
void setLayers(nlohmann::ordered_json& config, const MergeJob& job) {
    if (!config.contains("num_hidden_layers")) return;
    config["num_hidden_layers"] = job.models.outputLayers();
    for (const auto& [key, list] : job.base().config().items()) {
        if (!list.is_array() || !std::cmp_equal(list.size(), job.base().modelConfig().layers)) continue;
        nlohmann::ordered_json values = nlohmann::ordered_json::array();
        for (const ModelSlice& slice : job.models.slices) {
            const SliceInput& input = slice.inputs[slice.referenceInput()];
            const nlohmann::ordered_json own = job.models.models[input.model].config().value(key, nlohmann::ordered_json());
            for (std::int64_t layer = input.firstLayer; layer < input.firstLayer + slice.layers; ++layer) {
                if (!std::cmp_less(layer, own.size()))
                    throw InputError("{}: config.json has no {} of layer {}, which {} has",
                                     job.models.models[input.model].name(), key, layer, job.base().name());
                values.push_back(own[static_cast<std::size_t>(layer)]);
            }
        }
        config[key] = std::move(values);
    }
}

CardModel cardModel(const MergeJob& job, const Checkpoint& model) {
    const std::string name = HubReference::from(model.name()).name;
    if (!fs::exists(model.name()) && isHubName(name)) return {name, true};
    return {job.config.nameInFile(model.name()), false};
}

ModelCard modelCard(const MergeJob& job, const OutputPoint& point, const std::string& title) {
    const MethodInfo& method = job.method->info();
    ModelCard card;
    card.title = title;
    if (job.models.baseIndex) card.base = cardModel(job, job.base());
    for (const std::size_t expert : job.experts()) card.experts.push_back(cardModel(job, job.models.models[expert]));
    card.method = method.name;
    card.methodDescription = method.description;
    card.paper = method.paper;
    if (method.isRandom) card.seed = job.config.seed;
    card.omegas = job.omegasOf(point);
    if (job.config.aim) card.statistic = statisticName(job.config.aim->statistic);
    if (job.config.aim) card.source = job.config.aim->source;
    card.dtype = torchName(job.outputDtype());
    card.config = job.config.text;
    return card;
}

ManifestModel manifestModel(const MergeJob& job, const Checkpoint& model) {
    return {job.config.nameInFile(model.name()), model.headerDigest(), model.totalBytes()};
}

/// The parameters as they were used, defaults included; those with one value per input by model.
nlohmann::ordered_json effectiveParameters(const MergeJob& job) {
    const std::vector<ParameterSpec>& specs = job.method->info().parameters;
    std::vector<std::set<double>> shared(specs.size());
    std::vector<std::vector<std::set<double>>> perModel(specs.size(),
                                                        std::vector<std::set<double>>(job.models.models.size()));
    for (const MatchedTensor& tensor : job.tensors) {
        if (tensor.action != MatchedTensor::Action::Merge) continue;
        const std::vector<std::size_t> inputs = methodInputs(job.method->info(), job.models.slices[tensor.slice]);
        const ResolvedParameters values = tensorParameters(*job.method, job.config, job.models, tensor);
        for (std::size_t p = 0; p < specs.size(); ++p) {
            if (specs[p].scope == ParameterScope::Shared) {
                shared[p].insert(values.shared[p]);
                continue;
            }
            for (std::size_t i = 0; i < inputs.size(); ++i)
                perModel[p][tensor.inputs[inputs[i]].model].insert(values.perInput[p][i]);
        }
    }
    nlohmann::ordered_json settings = nlohmann::ordered_json::object();
    for (std::size_t p = 0; p < specs.size(); ++p) {
        if (specs[p].scope == ParameterScope::Shared) {
            settings[specs[p].name] = valuesJson(shared[p]);
            continue;
        }
        for (std::size_t i = 0; i < job.models.models.size(); ++i)
            if (!perModel[p][i].empty())
                settings[specs[p].name][job.config.nameInFile(job.models.models[i].name())] = valuesJson(perModel[p][i]);
    }
    return settings;
}

Manifest manifestOf(const MergeJob& job, const std::string& inputDigest, const OutputPoint& point) {
    Manifest manifest;
    manifest.version = kVersion;
    manifest.created = utcTimeText();
    manifest.inputDigest = inputDigest;
    manifest.method = job.method->info().name;
    manifest.omegas = job.omegasOf(point);
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        manifest.seeds["calibration"] = job.config.aim->calibration.seed;
    if (job.method->info().isRandom) manifest.seeds["merge"] = job.config.seed;
    if (job.models.baseIndex) manifest.base = manifestModel(job, job.base());
    for (const std::size_t expert : job.experts()) manifest.experts.push_back(manifestModel(job, job.models.models[expert]));
    manifest.settings = effectiveParameters(job);
    manifest.config = job.config.text;
    return manifest;
}

/// Every point's folder is complete by itself, so the log lies in each; as one file on disk where the file system has links.
ManifestFile placeStatisticsLog(const fs::path& build, const fs::path& folder) {
    const fs::path log = build / kStatisticsLogName, placed = folder / kStatisticsLogName;
    if (placed != log && !fs::exists(placed)) {
        std::error_code noLinks;
        fs::create_hard_link(log, placed, noLinks);
        if (noLinks) fs::copy_file(log, placed);
    }
    return fileEntry(folder, kStatisticsLogName);
}

std::vector<TokenizerFile> tokenizerFiles(const MergeJob& job) {
    const OutputTokenizer tokenizer =
        job.vocabulary ? job.vocabulary->tokenizer : OutputTokenizer{job.models.referenceIndex(), {}, {}};
    std::vector<TokenizerFile> files = outputTokenizerFiles(job.models.models[tokenizer.input].tokenizerFolder(), tokenizer);
    if (job.chatTemplate) setChatTemplate(files, *job.chatTemplate);
    return files;
}

void completePoint(const MergeJob& job, const std::string& inputDigest, const OutputPoint& point,
                   const std::vector<FinishedTensor>& finished, const OutputFolder& output) {
    const fs::path folder = point.folder.empty() ? output.buildFolder() : output.buildFolder() / point.folder;
    const std::string title = (point.folder.empty() ? output.target() : output.target() / point.folder).filename().string();

    SideFiles files;
    files.config = outputConfig(job);
    files.copyFrom = job.base().folder();
    const bool writesTokenizer = job.vocabulary || job.chatTemplate;
    files.tokenizer = writesTokenizer ? TokenizerCopy::WrittenByCaller : TokenizerCopy::FromSource;
    files.modelCard = modelCardText(modelCard(job, point, title));
    files.mergeConfig = job.config.text;

    Manifest manifest = manifestOf(job, inputDigest, point);
    manifest.files = shardEntries(job.layout, finished);
    std::ranges::move(writeSideFiles(folder, job.layout, files), std::back_inserter(manifest.files));
    if (writesTokenizer) {
        for (const TokenizerFile& file : tokenizerFiles(job)) {
            manifest.files.push_back(
                writeSideFile(folder, file.name, file.copyOf.empty() ? file.text : readTextFile(file.copyOf)));
        }
    }
    if (job.config.aim) manifest.files.push_back(placeStatisticsLog(output.buildFolder(), folder));
    writeManifest(folder, manifest);
}

}  // namespace

nlohmann::ordered_json outputConfig(const MergeJob& job) {
    nlohmann::ordered_json config = withDtype(job.base().config(), job.outputDtype());
    if (job.vocabulary) config["vocab_size"] = job.vocabulary->rows;
    if (job.models.headIsWritten() && config.value("tie_word_embeddings", false)) config["tie_word_embeddings"] = false;
    setLayers(config, job);
    return config;
}

void completeAndPublish(const MergeJob& job, const std::string& inputDigest, const std::vector<FinishedTensor>& finished,
                        OutputFolder& output) {
    for (const OutputPoint& point : job.points) {
        std::vector<FinishedTensor> ofPoint;
        std::ranges::copy_if(finished, std::back_inserter(ofPoint),
                             [&](const FinishedTensor& tensor) { return tensor.folder == point.folder; });
        completePoint(job, inputDigest, point, ofPoint, output);
    }
    output.publish();
}

}  // namespace aimerge
