#include "config/slice_reader.h"

#include "aimerge/config/model_reference.h"
#include "config/calibration_config.h"
#include "config/parameter_settings.h"
#include "config/scalar_text.h"

namespace aimerge {
namespace {

/// One spelling for each folder: no trailing slash, no "./".
std::filesystem::path comparable(const std::string& model) {
    const std::filesystem::path path = std::filesystem::path(model).lexically_normal();
    return path.has_filename() ? path : path.parent_path();
}

/// The items of a list. @param what one of them: "entries '- model: NAME'"
const std::vector<YamlNode>& listOf(const YamlNode& node, const std::string& name, std::string_view what) {
    if (node.kind != YamlNode::Kind::Sequence)
        throw UsageError("{}: {} must be a list of {}, found {}", node.mark.text(), name, what, describe(node));
    return node.items;
}

std::int64_t layerOf(const YamlNode& node, const std::string& name) {
    const std::string& text = scalarText(node, name, "two whole numbers [from, to)");
    // 4.0 is 4, as for mergekit.
    const std::size_t point = text.find('.');
    const bool isWhole = point != std::string::npos && text.find_first_not_of('0', point + 1) == std::string::npos;
    const auto layer = wholeNumberFromText(isWhole ? text.substr(0, point) : text);
    if (!layer || *layer < 0)
        throw UsageError("{}: {} must be whole numbers of at least 0, found '{}'", node.mark.text(), name, text);
    return *layer;
}

LayerRange layerRangeOf(const YamlNode& node, const std::string& name) {
    const std::vector<YamlNode>& ends = listOf(node, name, "two layers [from, to)");
    if (ends.size() != 2)
        throw UsageError("{}: {} must be a list of two layers [from, to), found {} of them", node.mark.text(), name,
                         ends.size());
    const LayerRange range{layerOf(ends[0], name), layerOf(ends[1], name), node.mark};
    if (range.from > range.to)
        throw UsageError("{}: {} ends before it begins: [{}, {})", node.mark.text(), name, range.from, range.to);
    return range;
}

ParameterMap parametersIn(const MappingReader& reader, UnreadKeys& unread) {
    const YamlEntry* parameters = reader.find("parameters");
    return parameters == nullptr ? ParameterMap{} : readParameters(parameters->value, reader.nameOf("parameters"), unread);
}

enum class Layers { All, MayBeGiven };

ModelEntry readEntry(const YamlNode& node, const std::string& name, Layers layers, UnreadKeys& unread) {
    std::vector<std::string> keys{"model", "parameters", "calibration"};
    if (layers == Layers::MayBeGiven) keys.insert(keys.begin() + 1, "layer_range");
    const MappingReader reader(node, name, keys, &unread);
    const YamlEntry* model = reader.find("model");
    if (model == nullptr) throw UsageError("{}: {} needs a 'model': a folder or a hub name", node.mark.text(), name);
    ModelEntry entry{readModelReference(model->value, reader.nameOf("model"), &unread), parametersIn(reader, unread),
                     model->value.mark};
    if (const YamlEntry* calibration = reader.find("calibration"))
        entry.calibration = readWholeCalibration(*calibration, reader.nameOf("calibration"));
    if (layers == Layers::All) return entry;
    if (const YamlEntry* range = reader.find("layer_range"))
        entry.layers = layerRangeOf(range->value, reader.nameOf("layer_range"));
    return entry;
}

std::vector<ModelEntry> readEntries(const YamlNode& node, const std::string& name, Layers layers, UnreadKeys& unread) {
    const std::vector<YamlNode>& items = listOf(node, name, "entries '- model: NAME'");
    std::vector<ModelEntry> models;
    for (std::size_t i = 0; i < items.size(); ++i) {
        ModelEntry entry = readEntry(items[i], fmt::format("{}[{}]", name, i), layers, unread);
        for (const ModelEntry& earlier : models)
            if (comparable(earlier.model) == comparable(entry.model))
                throw UsageError("{}: the model '{}' is listed twice, first at {}", entry.mark.text(), entry.model,
                                 earlier.mark.text());
        models.push_back(std::move(entry));
    }
    return models;
}

Slice readSlice(const YamlNode& node, const std::string& name, UnreadKeys& unread) {
    const MappingReader reader(node, name, {"sources", "base_model", "parameters"}, &unread);
    Slice slice;
    slice.mark = node.mark;
    if (const YamlEntry* sources = reader.find("sources"))
        slice.sources = readEntries(sources->value, reader.nameOf("sources"), Layers::MayBeGiven, unread);
    if (slice.sources.empty())
        throw UsageError("{}: {} needs 'sources': a list of models and their layers", node.mark.text(), name);
    if (const YamlEntry* base = reader.find("base_model"))
        slice.baseModel = readModelReference(base->value, reader.nameOf("base_model"), &unread);
    slice.parameters = parametersIn(reader, unread);
    return slice;
}

/// `models` or `slices`, of the file or of a module.
std::vector<Slice> slicesIn(const MappingReader& reader, UnreadKeys& unread) {
    const YamlEntry* models = reader.find("models");
    const YamlEntry* slices = reader.find("slices");
    if (models != nullptr && slices != nullptr)
        throw UsageError("{}: '{}' and '{}' exclude each other: whole models, or layers of them", slices->mark.text(),
                         reader.nameOf("models"), reader.nameOf("slices"));
    std::vector<Slice> result;
    if (models != nullptr) {
        Slice whole;
        whole.sources = readEntries(models->value, reader.nameOf("models"), Layers::All, unread);
        whole.mark = models->mark;
        whole.wholeModels = true;
        if (!whole.sources.empty()) result.push_back(std::move(whole));
    } else if (slices != nullptr) {
        const std::string name = reader.nameOf("slices");
        const std::vector<YamlNode>& items = listOf(slices->value, name, "slices '- sources: [...]'");
        for (std::size_t i = 0; i < items.size(); ++i)
            result.push_back(readSlice(items[i], fmt::format("{}[{}]", name, i), unread));
    }
    return result;
}

/// `default` is the whole model; else each is a stack of layers, whose name the model's architecture knows.
void readModules(const YamlEntry& modules, MergeConfig& config) {
    constexpr std::string_view kWhole = "default";
    if (modules.value.kind != YamlNode::Kind::Mapping || modules.value.entries.empty())
        throw UsageError(
            "{}: modules must have a section per module: default for the whole model, or the names of stacks of layers such "
            "as text_decoder",
            modules.mark.text());
    for (const YamlEntry& entry : modules.value.entries) {
        const bool isWhole = entry.key == kWhole;
        if (isWhole && modules.value.entries.size() > 1)
            throw UsageError("{}: the module default is the whole model, and has no other beside it", entry.mark.text());
        const MappingReader module(entry.value, "modules." + entry.key, {"models", "slices", "parameters"}, &config.unread);
        const std::string name = isWhole ? "" : entry.key;
        std::vector<Slice> slices = slicesIn(module, config.unread);
        if (slices.empty() && !isWhole)
            throw UsageError("{}: modules.{} needs 'models' or 'slices'; a module that is not written is the base's",
                             entry.mark.text(), entry.key);
        for (Slice& slice : slices) {
            slice.module = name;
            slice.moduleMark = entry.mark;
            config.slices.push_back(std::move(slice));
        }
        config.moduleParameters[name] = parametersIn(module, config.unread);
    }
}

}  // namespace

void readSlices(const MappingReader& file, MergeConfig& config) {
    const YamlEntry* modules = file.find("modules");
    if (modules == nullptr) {
        config.slices = slicesIn(file, config.unread);
        return;
    }
    for (const char* key : {"models", "slices"})
        if (const YamlEntry* entry = file.find(key))
            throw UsageError("{}: '{}' and 'modules' exclude each other; write it inside of modules.default",
                             entry->mark.text(), key);
    readModules(*modules, config);
}

}  // namespace aimerge
