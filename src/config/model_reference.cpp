#include "aimerge/config/model_reference.h"

#include "aimerge/config/mapping_reader.h"

namespace aimerge {

std::string readModelReference(const YamlNode& node, const std::string& name, UnreadKeys* unread) {
    if (node.kind != YamlNode::Kind::Mapping) {
        const std::string& text = scalarText(node, name, "text, or a mapping with the key model");
        if (text.empty()) throw UsageError("{}: {} is an empty text", node.mark.text(), name);
        return text;
    }
    if (node.find("model") != nullptr) {
        const MappingReader reader(node, name, {"model", "lora"}, unread);
        const YamlEntry* model = reader.find("model");
        if (model == nullptr) throw UsageError("{}: {} needs a 'model': a folder or a hub name", node.mark.text(), name);
        const std::string base = readModelReference(model->value, reader.nameOf("model"), unread);
        const YamlEntry* lora = reader.find("lora");
        return lora == nullptr ? base : base + "+" + readModelReference(lora->value, reader.nameOf("lora"), unread);
    }
    const MappingReader reader(node, name, {"path", "revision"}, unread);
    const auto path = reader.text("path");
    if (!path) throw UsageError("{}: {} needs a 'path': a folder or a hub name", node.mark.text(), name);
    const auto revision = reader.text("revision");
    return revision ? fmt::format("{}@{}", *path, *revision) : *path;
}

}  // namespace aimerge
