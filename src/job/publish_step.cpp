#include "job/publish_step.h"

#include "aimerge/checkpoint/hub_cache.h"
#include "aimerge/core/error.h"
#include "aimerge/core/utc_time.h"
#include "aimerge/core/version.h"
#include "aimerge/merge/resolve_parameters.h"
#include "aimerge/merge/tensor_assembly.h"
#include "aimerge/output/model_card.h"
#include "aimerge/output/side_files.h"
#include "aimerge/vocabulary/chat_template.h"
#include "aimerge/vocabulary/tokenizer_files.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// The module's stack as one of its models has it.
const Stack& stackIn(const MergeJob& job, const ModelModule& module, const Checkpoint& model) {
    const Stack& ofBase = job.base().architecture().stacks().at(module.stack.value_or(0));
    return *findStackLike(model.architecture(), ofBase);  // ModelSet::open() refuses a model without it
}

/// The list that says what `wanted` does, maybe in another section of config.json: what a multimodal model has in
/// text_config a text model has at the top. Null: there is none.
const LayerList* findList(const std::vector<LayerList>& lists, const LayerList& wanted) {
    const auto keyOf = [](const LayerList& list) { return std::string_view(list.path).substr(list.path.rfind('/') + 1); };
    const auto same = std::ranges::find(lists, wanted.path, &LayerList::path);
    const auto found = same != lists.end() ? same : std::ranges::find(lists, keyOf(wanted), keyOf);
    return found == lists.end() ? nullptr : &*found;
}

/// The values of a list for the layers that slices took: each layer's are those of its slice's reference model.
nlohmann::ordered_json listOfSlices(const MergeJob& job, const ModelModule& module, const LayerList& list) {
    nlohmann::ordered_json values = nlohmann::ordered_json::array();
    std::string pattern;
    for (std::size_t i = module.firstSlice; i < module.firstSlice + module.slices; ++i) {
        const ModelSlice& slice = job.models.slices[i];
        const SliceInput& input = slice.inputs[slice.referenceInput()];
        const Checkpoint& model = job.models.models[input.model];
        const LayerList* const own = findList(stackIn(job, module, model).perLayer, list);
        if (own == nullptr)
            throw InputError("{}: config.json has no {} with a value for each layer, which {} has", model.name(),
                             list.path.substr(1), job.base().name());
        for (std::int64_t layer = input.firstLayer; layer < input.firstLayer + slice.layers; ++layer) {
            const auto number = static_cast<std::size_t>(layer);
            if (own->values.is_string())
                pattern += own->values.get_ref<const std::string&>()[number];
            else
                values.push_back(own->values[number]);
        }
    }
    if (list.values.is_string()) return pattern;
    return values;
}

/// The numbers in a list of layers, as the slices count them.
nlohmann::ordered_json numbersOfSlices(const MergeJob& job, const ModelModule& module, const LayerList& list) {
    nlohmann::ordered_json numbers = nlohmann::ordered_json::array();
    for (std::size_t i = module.firstSlice; i < module.firstSlice + module.slices; ++i) {
        const ModelSlice& slice = job.models.slices[i];
        const SliceInput& input = slice.inputs[slice.referenceInput()];
        const LayerList* const own = findList(stackIn(job, module, job.models.models[input.model]).numbers, list);
        for (std::int64_t layer = 0; own != nullptr && layer < slice.layers; ++layer)
            if (std::ranges::find(own->values, nlohmann::ordered_json(input.firstLayer + layer)) != own->values.end())
                numbers.push_back(slice.firstLayer + layer);
    }
    return numbers;
}

/// What config.json says of the layers that slices have put together anew: how many there are, and the lists about them.
void setLayers(nlohmann::ordered_json& config, const MergeJob& job) {
    using Pointer = nlohmann::ordered_json::json_pointer;
    for (const ModelModule& module : job.models.modules) {
        if (module.wholeModels || module.isCopied) continue;
        const std::size_t number = module.stack.value_or(0);
        const Stack& stack = job.base().architecture().stacks().at(number);
        for (const std::string& path : stack.countPaths)
            config[Pointer(path)] = job.models.output.stacks().at(number).layers;
        for (const LayerList& list : stack.perLayer) config[Pointer(list.path)] = listOfSlices(job, module, list);
        for (const LayerList& list : stack.numbers) config[Pointer(list.path)] = numbersOfSlices(job, module, list);
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
    if (job.featcal)
        for (const FeatcalTeacherModel& teacher : job.featcal->teachers)
            card.fittedTo.push_back(cardModel(job, teacher.model.in(job)));
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
        const auto [method, inputs] = methodFor(*job.method, job.models.slices[tensor.slice], tensor);
        if (method != job.method) continue;
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

Manifest manifestOf(const MergeJob& job, const Findings& findings, const OutputPoint& point) {
    Manifest manifest;
    manifest.version = kVersion;
    manifest.revisions = job.revisions();
    manifest.created = utcTimeText();
    manifest.inputDigest = findings.inputDigest;
    manifest.method = job.method->info().name;
    manifest.omegas = job.omegasOf(point);
    if (job.config.aim && job.config.aim->statisticsPath.empty())
        manifest.seeds["calibration"] = job.config.aim->calibration.seed;
    if (job.method->info().isRandom) manifest.seeds["merge"] = job.config.seed;
    if (job.models.baseIndex) manifest.base = manifestModel(job, job.base());
    for (const std::size_t expert : job.experts()) manifest.experts.push_back(manifestModel(job, job.models.models[expert]));
    manifest.settings = effectiveParameters(job);
    manifest.coverage = findings.coverage;
    manifest.featcal = findings.featcal;
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

void completePoint(const MergeJob& job, const Findings& findings, const OutputPoint& point,
                   const std::vector<FinishedTensor>& finished, const OutputFolder& output) {
    const fs::path folder = point.folder.empty() ? output.buildFolder() : output.buildFolder() / point.folder;
    const std::string title = (point.folder.empty() ? output.target() : output.target() / point.folder).filename().string();

    SideFiles files;
    files.config = outputConfig(job);
    files.copyFrom = job.base().folder();
    const bool writesTokenizer = job.vocabulary || job.chatTemplate;
    files.tokenizer = writesTokenizer ? TokenizerCopy::WrittenByCaller : TokenizerCopy::FromSource;
    files.dropsProcessorTemplate = job.chatTemplate.has_value();
    files.modelCard = modelCardText(modelCard(job, point, title));
    files.mergeConfig = job.config.text;

    Manifest manifest = manifestOf(job, findings, point);
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
    if (job.vocabulary) setVocabularySize(config, job.vocabulary->rows);
    if (job.models.headIsWritten() && isTied(config)) setUntied(config);
    setLayers(config, job);
    return config;
}

void completeAndPublish(const MergeJob& job, const Findings& findings, const std::vector<FinishedTensor>& finished,
                        OutputFolder& output) {
    for (const OutputPoint& point : job.points) {
        std::vector<FinishedTensor> ofPoint;
        std::ranges::copy_if(finished, std::back_inserter(ofPoint),
                             [&](const FinishedTensor& tensor) { return tensor.folder == point.folder; });
        completePoint(job, findings, point, ofPoint, output);
    }
    output.publish();
}

}  // namespace aimerge
