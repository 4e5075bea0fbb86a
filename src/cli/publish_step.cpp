#include "cli/publish_step.h"

#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/checkpoint/model_card.h"
#include "aimerge/checkpoint/parameter_name.h"
#include "aimerge/checkpoint/side_files.h"
#include "aimerge/checkpoint/tokenizer_files.h"
#include "aimerge/core/error.h"
#include "aimerge/core/utc_time.h"
#include "aimerge/core/version.h"

#include <algorithm>
#include <filesystem>
#include <set>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

nlohmann::ordered_json outputConfig(const MergeJob& job) {
    nlohmann::ordered_json config = withDtype(job.base().config(), job.outputDtype());
    if (job.vocabulary) config["vocab_size"] = job.vocabulary->rows;
    if (job.models.headIsWritten() && config.value("tie_word_embeddings", false)) config["tie_word_embeddings"] = false;
    return config;
}

CardModel cardModel(const Checkpoint& model) {
    return {model.name(), !fs::exists(model.name()) && isHubName(model.name())};
}

ModelCard modelCard(const MergeJob& job, const OutputPoint& point, const std::string& title) {
    const MethodInfo& method = job.method->info();
    ModelCard card;
    card.title = title;
    if (job.models.baseIndex) card.base = cardModel(job.base());
    for (const std::size_t expert : job.experts()) card.experts.push_back(cardModel(job.models.models[expert]));
    card.method = method.name;
    card.methodDescription = method.description;
    card.paper = method.paper;
    if (method.isRandom) card.seed = job.config.seed;
    card.omega = point.omega;
    if (job.config.aim) card.statistic = statisticName(job.config.aim->statistic);
    card.dtype = torchName(job.outputDtype());
    card.config = job.config.text;
    return card;
}

ManifestModel manifestModel(const Checkpoint& model) {
    return {model.name(), model.headerDigest(), model.totalBytes()};
}

/// A number, or for a value that differs between tensors (a gradient, a filter) all that occur.
nlohmann::ordered_json valuesText(const std::set<double>& values) {
    if (values.size() == 1) return *values.begin();
    return values;
}

/// The parameters as they were used, defaults included.
nlohmann::ordered_json effectiveParameters(const MergeJob& job) {
    const std::vector<ParameterSpec>& specs = job.method->info().parameters;
    std::vector<std::set<double>> shared(specs.size());
    std::vector<std::vector<std::set<double>>> perInput(specs.size(),
                                                        std::vector<std::set<double>>(job.methodInputs.size()));
    for (const MatchedTensor& tensor : job.tensors) {
        if (tensor.action != MatchedTensor::Action::Merge) continue;
        const ResolvedParameters values = parametersOf(job, tensor.name);
        for (std::size_t p = 0; p < specs.size(); ++p) {
            if (specs[p].scope == ParameterScope::Shared) shared[p].insert(values.shared[p]);
            for (std::size_t i = 0; specs[p].scope != ParameterScope::Shared && i < job.methodInputs.size(); ++i)
                perInput[p][i].insert(values.perInput[p][i]);
        }
    }
    nlohmann::ordered_json settings = nlohmann::ordered_json::object();
    for (std::size_t p = 0; p < specs.size(); ++p) {
        if (specs[p].scope == ParameterScope::Shared) {
            settings[specs[p].name] = valuesText(shared[p]);
            continue;
        }
        for (std::size_t i = 0; i < job.methodInputs.size(); ++i) {
            settings[specs[p].name][job.models.models[job.methodInputs[i]].name()] = valuesText(perInput[p][i]);
        }
    }
    return settings;
}

Manifest manifestOf(const MergeJob& job, const OutputPoint& point) {
    Manifest manifest;
    manifest.version = kVersion;
    manifest.created = utcTimeText();
    manifest.method = job.method->info().name;
    manifest.omega = point.omega;
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        manifest.seeds["calibration"] = job.config.aim->calibration.seed;
    if (job.method->info().isRandom) manifest.seeds["merge"] = job.config.seed;
    if (job.models.baseIndex) manifest.base = manifestModel(job.base());
    for (const std::size_t expert : job.experts()) manifest.experts.push_back(manifestModel(job.models.models[expert]));
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

void completePoint(const MergeJob& job, const OutputPoint& point, const std::vector<FinishedTensor>& finished,
                   const OutputFolder& output) {
    const fs::path folder = point.folder.empty() ? output.buildFolder() : output.buildFolder() / point.folder;
    const std::string title = (point.folder.empty() ? output.target() : output.target() / point.folder).filename().string();

    SideFiles files;
    files.config = outputConfig(job);
    files.copyFrom = job.base().folder();
    files.tokenizer = job.vocabulary ? TokenizerCopy::WrittenByCaller : TokenizerCopy::FromSource;
    files.modelCard = modelCardText(modelCard(job, point, title));
    files.mergeConfig = job.config.text;

    Manifest manifest = manifestOf(job, point);
    manifest.files = shardEntries(job.layout, finished);
    std::ranges::move(writeSideFiles(folder, job.layout, files), std::back_inserter(manifest.files));
    if (job.vocabulary) {
        const Checkpoint& source = job.models.models[job.vocabulary->tokenizer.input];
        for (const TokenizerFile& file : outputTokenizerFiles(source.tokenizerFolder(), job.vocabulary->tokenizer)) {
            manifest.files.push_back(
                writeSideFile(folder, file.name, file.copyOf.empty() ? file.text : readTextFile(file.copyOf)));
        }
    }
    if (job.config.aim) manifest.files.push_back(placeStatisticsLog(output.buildFolder(), folder));
    writeManifest(folder, manifest);
}

}  // namespace

void completeAndPublish(const MergeJob& job, const std::vector<FinishedTensor>& finished, OutputFolder& output) {
    for (const OutputPoint& point : job.points) {
        std::vector<FinishedTensor> ofPoint;
        std::ranges::copy_if(finished, std::back_inserter(ofPoint),
                             [&](const FinishedTensor& tensor) { return tensor.folder == point.folder; });
        completePoint(job, point, ofPoint, output);
    }
    output.publish();
}

}  // namespace aimerge
