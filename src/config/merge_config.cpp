#include "aimerge/config/merge_config.h"

#include "aimerge/core/file.h"
#include "config/aim_config.h"
#include "config/calibration_config.h"
#include "config/mapping_reader.h"
#include "config/override.h"
#include "config/parameter_reader.h"
#include "config/vocabulary_config.h"

namespace aimerge {
namespace {

constexpr std::uint64_t kLargestConfigBytes = std::uint64_t{16} << 20;

const std::vector<std::string> kTopLevelKeys{"merge_method",
                                             "base_model",
                                             "models",
                                             "parameters",
                                             "dtype",
                                             "out_dtype",
                                             "tokenizer_source",
                                             "tokenizer",
                                             "chat_template",
                                             "unsafe_truncate_embeddings",
                                             "seed",
                                             "aim",
                                             "calibration"};

/// mergekit's keys that mean something, which we do not do.
void refuseUnsupportedKeys(const YamlNode& root) {
    for (const char* key : {"slices", "modules"})
        if (const YamlEntry* entry = root.find(key))
            throw UsageError("{}: '{}' is not supported: whole models are merged; list them under 'models'",
                             entry->mark.text(), key);
}

std::optional<Dtype> readDtype(const MappingReader& file, std::string_view key) {
    return file.choice<Dtype>(key, {{"bfloat16", Dtype::BF16}, {"float16", Dtype::F16}, {"float32", Dtype::F32}});
}

SourceMark valueMark(const MappingReader& file, std::string_view key) {
    const YamlEntry* entry = file.find(key);
    return entry == nullptr ? SourceMark{} : entry->value.mark;
}

ModelEntry readModel(const YamlNode& node, const std::string& name) {
    const MappingReader reader(node, name, {"model", "parameters", "calibration"});
    const auto model = reader.text("model");
    if (!model) throw UsageError("{}: {} needs a 'model': a folder or a hub name", node.mark.text(), name);
    ModelEntry entry{.model = *model, .parameters = {}, .calibration = {}, .mark = reader.find("model")->value.mark};
    if (const YamlEntry* parameters = reader.find("parameters"))
        entry.parameters = readParameters(parameters->value, reader.nameOf("parameters"));
    if (const YamlEntry* calibration = reader.find("calibration"))
        entry.calibration = readWholeCalibration(*calibration, reader.nameOf("calibration"));
    return entry;
}

/// The same folder has one spelling: no trailing slash, no "./".
std::filesystem::path comparable(const std::string& model) {
    const std::filesystem::path path = std::filesystem::path(model).lexically_normal();
    return path.has_filename() ? path : path.parent_path();
}

std::vector<ModelEntry> readModels(const YamlEntry& section) {
    if (section.value.kind != YamlNode::Kind::Sequence)
        throw UsageError("{}: models must be a list of entries '- model: NAME', found {}", section.value.mark.text(),
                         describe(section.value));
    std::vector<ModelEntry> models;
    for (std::size_t i = 0; i < section.value.items.size(); ++i) {
        ModelEntry entry = readModel(section.value.items[i], fmt::format("models[{}]", i));
        for (const ModelEntry& earlier : models)
            if (comparable(earlier.model) == comparable(entry.model))
                throw UsageError("{}: the model '{}' is listed twice, first at {}", entry.mark.text(), entry.model,
                                 earlier.mark.text());
        models.push_back(std::move(entry));
    }
    return models;
}

void requireFor(ConfigUse use, const MergeConfig& config, const std::string& fileName) {
    if (use == ConfigUse::Merge) {
        if (config.method.empty()) throw UsageError("{}: 'merge_method' is missing", fileName);
        if (config.models.empty()) throw UsageError("{}: 'models' is missing or empty: list the models to merge", fileName);
    } else {
        if (config.baseModel.empty())
            throw UsageError("{}: 'base_model' is missing: it is the model whose activations are measured", fileName);
        if (!config.aim) throw UsageError("{}: 'aim.calibration' is missing: it names the text or token ids", fileName);
    }
}

MergeConfig readConfig(const YamlNode& root, ConfigUse use) {
    refuseUnsupportedKeys(root);
    const MappingReader file(root, "", kTopLevelKeys);
    MergeConfig config;
    config.method = file.text("merge_method").value_or("");
    config.methodMark = valueMark(file, "merge_method");
    config.baseModel = file.text("base_model").value_or("");
    config.baseModelMark = valueMark(file, "base_model");
    if (const YamlEntry* models = file.find("models")) config.models = readModels(*models);
    if (const YamlEntry* parameters = file.find("parameters"))
        config.parameters = readParameters(parameters->value, "parameters");
    config.dtype = readDtype(file, "dtype");
    config.outDtype = readDtype(file, "out_dtype");
    config.seed = file.naturalNumber("seed").value_or(config.seed);
    config.vocabulary = readVocabulary(file);
    config.chatTemplate = file.text("chat_template").value_or("");
    // Written with nothing under it, the section is read for its message about what is missing.
    if (const YamlEntry* aim = root.find("aim")) config.aim = readAim(*aim, use);
    if (const YamlEntry* calibration = file.find("calibration"))
        config.calibration = readWholeCalibration(*calibration, "calibration");
    return config;
}

}  // namespace

std::string_view statisticName(Statistic statistic) {
    switch (statistic) {
        case Statistic::MeanAbs:
            return "mean_abs";
        case Statistic::Rms:
            return "rms";
        case Statistic::MaxAbs:
            return "max_abs";
    }
    return {};
}

const CalibrationConfig* expertCalibration(const MergeConfig& config, std::size_t model) {
    if (model < config.models.size() && config.models[model].calibration) return &*config.models[model].calibration;
    if (config.calibration) return &*config.calibration;
    return config.aim && config.aim->hasCalibration ? &config.aim->calibration : nullptr;
}

MergeConfig parseMergeConfig(const std::string& text, const std::string& fileName, const std::vector<std::string>& overrides,
                             ConfigUse use) {
    YamlNode root = parseYaml(text, fileName);
    if (root.kind == YamlNode::Kind::Null)
        throw UsageError("{}: the file is empty; a merge configuration was expected", fileName);
    if (root.kind == YamlNode::Kind::Mapping)
        for (const std::string& override : overrides) applyOverride(root, override);
    MergeConfig config = readConfig(root, use);
    requireFor(use, config, fileName);
    config.file = fileName;
    config.text = overrides.empty() ? text : writeYaml(root);
    return config;
}

MergeConfig loadMergeConfig(const std::filesystem::path& file, const std::vector<std::string>& overrides, ConfigUse use) {
    return parseMergeConfig(readTextFile(file, kLargestConfigBytes), file.string(), overrides, use);
}

}  // namespace aimerge
