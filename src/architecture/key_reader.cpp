#include "architecture/key_reader.h"

namespace aimerge {

std::vector<bool> KeyReader::flags(const char* key, std::int64_t entries) const {
    const Json* list = find(key);
    if (list == nullptr) return {};
    if (!list->is_array() || list->size() != static_cast<std::size_t>(entries))
        return refuse(key, *list, "a list with a number per layer", std::vector<bool>());
    std::vector<bool> flags;
    for (const Json& entry : *list) {
        if (entry.is_boolean())
            flags.push_back(entry.get<bool>());
        else if (entry == 0 || entry == 1)
            flags.push_back(entry == 1);
        else
            return refuse(key, *list, "a list of 0 and 1", std::vector<bool>());
    }
    return flags;
}

std::vector<std::string> KeyReader::layerTypes(std::int64_t layers) const {
    const Json* list = find("layer_types");
    if (list == nullptr) return {};
    if (!list->is_array() || list->size() != static_cast<std::size_t>(layers))
        throw InputError("{}: {}layer_types is no list of {} layers", fileName_, prefix_, layers);
    std::vector<std::string> types;
    for (const Json& entry : *list) {
        if (entry != "full_attention" && entry != "sliding_attention")
            cannotRun("layer_types", entry, "full_attention and sliding_attention");
        types.push_back(entry.get<std::string>());
    }
    return types;
}

}  // namespace aimerge
