#include "aimerge/config/merge_config.h"

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/merge_document.h"
#include "aimerge/config/model_reference.h"
#include "aimerge/config/override.h"
#include "aimerge/core/file.h"
#include "config/aim_config.h"
#include "config/calibration_config.h"
#include "config/documents.h"
#include "config/featcal_config.h"
#include "config/foreign_config.h"
#include "config/misplaced_keys.h"
#include "config/parameter_settings.h"
#include "config/slice_reader.h"
#include "config/vocabulary_config.h"

#include <algorithm>

namespace aimerge {
namespace {

constexpr std::uint64_t kLargestConfigBytes = std::uint64_t{16} << 20;

const std::vector<std::string> kTopLevelKeys{"merge_method", "base_model",    "models",
                                             "slices",       "modules",       "parameters",
                                             "dtype",        "out_dtype",     "tokenizer_source",
                                             "tokenizer",    "chat_template", "unsafe_truncate_embeddings",
                                             "seed",         "name",          "aim",
                                             "featcal",      "calibration"};

/// mergekit takes torch's names, too: torch.bfloat16.
std::optional<Dtype> readDtype(const MappingReader& file, std::string_view key) {
    const std::vector<std::pair<std::string, Dtype>> names{
        {"bfloat16", Dtype::BF16}, {"float16", Dtype::F16}, {"float32", Dtype::F32}};
    if (const YamlEntry* entry = file.find(key); entry && entry->value.kind == YamlNode::Kind::Scalar)
        for (const auto& [name, dtype] : names)
            if (entry->value.text == "torch." + name) return dtype;
    return file.choice<Dtype>(key, names);
}

SourceMark valueMark(const MappingReader& file, std::string_view key) {
    const YamlEntry* entry = file.find(key);
    return entry == nullptr ? SourceMark{} : entry->value.mark;
}

/// @param place the file; of several documents, where this one begins
void requireFor(ConfigUse use, const MergeConfig& config, const std::string& place) {
    if (use == ConfigUse::Merge) {
        if (config.method.empty()) throw UsageError("{}: 'merge_method' is missing", place);
        if (config.slices.empty())
            throw UsageError("{}: 'models' is missing or empty: list the models to merge, or their 'slices'", place);
    } else {
        if (config.baseModel.empty())
            throw UsageError("{}: 'base_model' is missing: it is the model whose activations are measured", place);
        if (!config.aim) throw UsageError("{}: 'aim.calibration' is missing: it names the text or token ids", place);
    }
}

/// A calibration needs base_model and aim alone: the config may be a sweep's.
std::vector<std::string> topLevelKeys(ConfigUse use) {
    std::vector<std::string> keys = kTopLevelKeys;
    if (use == ConfigUse::Calibrate)
        keys.insert(keys.end(), {"experts", "combinations", "methods", "omega", "evaluation", "output"});
    return keys;
}

MergeConfig readConfig(const YamlNode& root, ConfigUse use) {
    if (use == ConfigUse::Merge) refuseForeignConfig(root);
    MergeConfig config;
    const MappingReader file(root, "", topLevelKeys(use), &config.unread);
    config.method = file.text("merge_method").value_or("");
    config.methodMark = valueMark(file, "merge_method");
    config.name = file.text("name").value_or("");
    config.nameMark = valueMark(file, "name");
    if (const YamlEntry* base = file.find("base_model"))
        config.baseModel = readModelReference(base->value, "base_model", &config.unread);
    config.baseModelMark = valueMark(file, "base_model");
    readSlices(file, config);
    if (const YamlEntry* parameters = file.find("parameters"))
        config.parameters = readParameters(parameters->value, "parameters", config.unread);
    config.dtype = readDtype(file, "dtype");
    config.outDtype = readDtype(file, "out_dtype");
    config.seed = file.naturalNumber("seed").value_or(config.seed);
    config.vocabulary = readVocabulary(file, config.unread);
    config.chatTemplate = file.text("chat_template").value_or("");
    config.chatTemplateMark = valueMark(file, "chat_template");
    // Written with nothing under it, the section is read for its message about what is missing.
    if (const YamlEntry* aim = root.find("aim")) config.aim = readAim(*aim, use);
    if (const YamlEntry* calibration = file.find("calibration"))
        config.calibration = readWholeCalibration(*calibration, "calibration");
    if (const YamlEntry* featcal = root.find("featcal")) config.featcal = readFeatcal(*featcal);
    refuseMisplaced(root, config.unread);
    return config;
}

/// @param place the file; of several documents, where this one begins
YamlNode parseDocument(const YamlText& document, const std::string& fileName, const std::string& place) {
    YamlNode root = parseYaml(document, fileName);
    if (root.kind == YamlNode::Kind::Null) {
        if (place == fileName) throw UsageError("{}: the file is empty; a merge configuration was expected", fileName);
        throw UsageError("{}: this document is empty; write a merge configuration or remove its line '---'", place);
    }
    return root;
}

MergeConfig configOf(YamlNode root, const YamlText& document, const std::string& fileName,
                     const std::vector<std::string>& overrides, ConfigUse use, const std::string& place) {
    if (root.kind == YamlNode::Kind::Mapping)
        for (const std::string& override : overrides) applyOverride(root, override);
    MergeConfig config = readConfig(root, use);
    requireFor(use, config, place);
    config.file = fileName;
    config.text = document.text;
    if (!overrides.empty()) config.text = (document.firstLine > 1 ? "---\n" : "") + writeYaml(root);
    return config;
}

}  // namespace

const ModelEntry* Slice::find(const std::string& model) const {
    const auto found = std::ranges::find(sources, model, &ModelEntry::model);
    return found == sources.end() ? nullptr : &*found;
}

const std::string& MergeConfig::baseOf(const Slice& slice) const {
    static const std::string none;
    if (!slice.baseModel.empty()) return slice.baseModel;
    return slice.wholeModels || slice.find(baseModel) != nullptr ? baseModel : none;
}

std::string_view statisticName(Statistic statistic) {
    switch (statistic) {
        case Statistic::MeanAbs:
            return "mean_abs";
        case Statistic::Rms:
            return "rms";
        case Statistic::MaxAbs:
            return "max_abs";
        case Statistic::Sensitivity:
            return "sensitivity";
        case Statistic::SensitivityChannel:
            return "sensitivity_channel";
        case Statistic::Wanda:
            return "wanda";
    }
    return {};
}

std::string_view sourceName(ActivationSource source) {
    switch (source) {
        case ActivationSource::Base:
            return "base";
        case ActivationSource::ExpertsMean:
            return "mean";
        case ActivationSource::ExpertsMax:
            return "max";
        case ActivationSource::Experts:
            return "experts";
    }
    return {};
}

const CalibrationConfig* expertCalibration(const MergeConfig& config, const ModelEntry* model) {
    if (model && model->calibration) return &*model->calibration;
    if (config.calibration) return &*config.calibration;
    return config.aim && config.aim->hasCalibration ? &config.aim->calibration : nullptr;
}

std::string readMergeConfigText(const std::filesystem::path& file) {
    return readTextFile(file, kLargestConfigBytes);
}

std::vector<MergeConfig> parseMergeConfigs(const std::string& text, const std::string& fileName,
                                           const std::vector<std::string>& overrides, ConfigUse use) {
    const std::vector<YamlText> texts = splitDocuments(text);
    if (texts.size() == 1)
        return {configOf(parseDocument(texts[0], fileName, fileName), texts[0], fileName, overrides, use, fileName)};

    std::vector<YamlNode> roots;
    std::vector<SourceMark> begins;
    for (const YamlText& document : texts) {
        begins.push_back({.file = fileName, .line = document.firstLine, .column = 1});
        roots.push_back(parseDocument(document, fileName, begins.back().text()));
    }
    const auto resultFrom = [&](std::size_t i) {
        return configOf(roots[i], texts[i], fileName, overrides, use, begins[i].text());
    };
    const auto usableFrom = [&](std::size_t i) {
        MergeConfig config = configOf(roots[i], texts[i], fileName, {}, ConfigUse::Merge, begins[i].text());
        checkUsableDocument(config);
        return config;
    };

    const std::optional<std::size_t> nameless = documentWithoutName(roots, begins);
    std::size_t result = nameless.value_or(texts.size() - 1);
    std::vector<MergeConfig> documents(texts.size());
    for (std::size_t i = 0; i < texts.size(); ++i)
        if (i != result) documents[i] = usableFrom(i);
    if (!nameless && isUsed(roots[result].find("name")->value.text, documents)) {
        documents[result] = usableFrom(result);
        result = unusedDocument(documents).value_or(result);
    }
    documents[result] = resultFrom(result);
    return inOrderOfUse(std::move(documents), result);
}

MergeConfig mergeConfigOf(const YamlNode& root, const std::string& fileName) {
    MergeConfig config = readConfig(root, ConfigUse::Merge);
    requireFor(ConfigUse::Merge, config, fileName);
    config.file = fileName;
    config.text = writeYaml(root);
    return config;
}

MergeConfig parseMergeConfig(const std::string& text, const std::string& fileName, const std::vector<std::string>& overrides,
                             ConfigUse use) {
    return parseMergeConfigs(text, fileName, overrides, use).back();
}

}  // namespace aimerge
