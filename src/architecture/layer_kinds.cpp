#include "architecture/layer_kinds.h"

#include "aimerge/architecture/family.h"
#include "architecture/stack_finder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

namespace aimerge {
namespace {

using Json = nlohmann::ordered_json;

/// Keys that count layers at the beginning which differ from the others.
constexpr std::array<const char*, 3> kDifferentFirstKeys{"first_k_dense_replace", "num_dense_layers",
                                                         "moe_layer_start_index"};

/// Where config.json speaks of the stack's layers.
const Json& sectionOfLayers(const Json& config, const Stack& stack) {
    std::string path;
    if (!stack.countPaths.empty())
        path = sectionOf(stack.countPaths.front());
    else if (!stack.perLayer.empty())
        path = sectionOf(stack.perLayer.front().path);
    return *valueAt(config, path);
}

std::int64_t wholeNumber(const Json& section, const char* key) {
    const auto found = section.find(key);
    return found != section.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

bool isTrue(const Json& section, const char* key) {
    const auto found = section.find(key);
    return found != section.end() && found->is_boolean() && found->get<bool>();
}

bool hasList(const Stack& stack, std::string_view key) {
    return std::ranges::any_of(stack.perLayer,
                               [&](const LayerList& list) { return list.path.ends_with(fmt::format("/{}", key)); });
}

/// Keys by which the number of a layer says what the layer computes, where no list says it.
std::string byNumber(const Json& section, const Stack& stack) {
    if (wholeNumber(section, "hidden_size_per_layer_input") > 0)
        return "the width of its table embed_tokens_per_layer depends on the number of layers "
               "(hidden_size_per_layer_input in config.json)";
    if (wholeNumber(section, "num_kv_shared_layers") > 0)
        return "its last layers take keys and values from earlier ones (num_kv_shared_layers in config.json)";
    if (isTrue(section, "scale_attn_by_inverse_layer_idx"))
        return "its attention is scaled by the number of the layer (scale_attn_by_inverse_layer_idx in config.json)";
    if (isTrue(section, "use_sliding_window") && !hasList(stack, "layer_types") &&
        wholeNumber(section, "max_window_layers") < stack.layers)
        return "its windows begin at a layer (max_window_layers in config.json)";
    if (wholeNumber(section, "moe_layer_end_index") > 0)
        return "its layers with experts begin and end at a number (moe_layer_start_index, moe_layer_end_index in "
               "config.json)";
    if (section.contains("attention_types")) return "attention_types in config.json counts layers";
    constexpr std::pair<const char*, const char*> kPeriods[] = {{"attn_layer_period", "layers_block_type"},
                                                                {"expert_layer_period", "mlp_layer_types"},
                                                                {"interleave_moe_layer_step", "mlp_layer_types"},
                                                                {"decoder_sparse_step", "mlp_layer_types"},
                                                                {"moe_layer_freq", "mlp_layer_types"},
                                                                {"moe_layer_interval", "mlp_layer_types"},
                                                                {"global_attn_every_n_layers", "layer_types"},
                                                                {"full_attention_interval", "layer_types"},
                                                                {"no_rope_layer_interval", "no_rope_layers"},
                                                                {"cross_attention_interval", "layer_types"}};
    for (const auto& [key, list] : kPeriods)
        if (wholeNumber(section, key) > 1 && !hasList(stack, list))
            return fmt::format("{} in config.json counts layers", key);
    return {};
}

/// What config.json says about two layers is the same only where their tensors are alike.
bool listsExplain(const std::vector<const LayerKinds*>& kinds) {
    std::map<std::string, std::string> tensorsOf;
    for (const LayerKinds* of : kinds) {
        for (std::size_t layer = 0; layer < of->tensors.size(); ++layer) {
            const auto [known, isNew] = tensorsOf.emplace(of->listed[layer], of->tensors[layer]);
            if (!isNew && known->second != of->tensors[layer]) return false;
        }
    }
    return true;
}

}  // namespace

void addImpliedLists(const Json& config, const std::string& modelType, Stack& stack) {
    if (stack.countPaths.empty() || hasList(stack, "layer_types")) return;
    const Json& section = sectionOfLayers(config, stack);
    const auto type = section.find("model_type");
    const bool isGemma2 = type != section.end() ? *type == "gemma2" : modelType == "gemma2";
    const std::int64_t pattern = isGemma2 ? 2 : wholeNumber(section, "sliding_window_pattern");
    if (pattern < 2) return;
    Json types = Json::array();
    for (std::int64_t layer = 0; layer < stack.layers; ++layer)
        types.push_back((layer + 1) % pattern == 0 ? "full_attention" : "sliding_attention");
    stack.perLayer.push_back({sectionOf(stack.countPaths.front()) + "/layer_types", std::move(types)});
}

LayerKinds layerKinds(const Json& config, const Family* family, const Stack& stack,
                      std::vector<std::vector<std::string>> tensors) {
    const Json& section = sectionOfLayers(config, stack);
    LayerKinds kinds;
    for (const char* key : kDifferentFirstKeys)
        kinds.differentFirst = std::max(kinds.differentFirst, wholeNumber(section, key));
    if (family) kinds.differentFirst = std::max(kinds.differentFirst, family->differentFirst);
    for (std::vector<std::string>& ofLayer : tensors) {
        std::ranges::sort(ofLayer);
        kinds.tensors.push_back(fmt::format("{}", fmt::join(ofLayer, ";")));
    }
    for (std::size_t layer = 0; layer < tensors.size(); ++layer) {
        std::string listed;
        for (const LayerList& list : stack.perLayer)
            listed += (list.values.is_string() ? std::string(1, list.values.get_ref<const std::string&>()[layer])
                                               : list.values[layer].dump()) +
                      ";";
        for (const LayerList& list : stack.numbers)
            listed += std::ranges::find(list.values, Json(layer)) != list.values.end() ? "1" : "0";
        listed += std::cmp_less(layer, kinds.differentFirst) ? "first" : "";
        kinds.listed.push_back(std::move(listed));
    }
    kinds.byNumber = family && !family->byNumber.empty() ? std::string(family->byNumber) : byNumber(section, stack);
    return kinds;
}

std::string Architecture::whyNotRenumbered(std::size_t stack, const std::vector<LayerSource>& from) const {
    const LayerKinds& own = kinds_[stack];
    bool staysInPlace = std::cmp_equal(from.size(), stacks_[stack].layers);
    for (std::size_t i = 0; i < from.size(); ++i) staysInPlace = staysInPlace && std::cmp_equal(from[i].layer, i);
    if (staysInPlace) return {};
    if (!own.byNumber.empty()) return own.byNumber;

    std::vector<const LayerKinds*> kinds;
    for (const LayerSource& source : from) kinds.push_back(&source.architecture->kinds_[stack]);
    // Layers that differ at the beginning stay there, and the others behind them.
    for (std::size_t i = 0; i < from.size(); ++i)
        if (std::cmp_less(i, own.differentFirst) != std::cmp_less(from[i].layer, kinds[i]->differentFirst))
            return fmt::format("its first {} other tensors than those behind them, and must stay the first",
                               own.differentFirst == 1 ? "layer has" : fmt::format("{} layers have", own.differentFirst));
    const auto isAsTheFirst = [&](const std::string& layer) { return layer == own.tensors.front(); };
    const bool areAllAlike =
        std::ranges::all_of(kinds, [&](const LayerKinds* of) { return std::ranges::all_of(of->tensors, isAsTheFirst); });
    if (areAllAlike || listsExplain(kinds)) return {};
    const auto other = std::ranges::find_if_not(own.tensors, isAsTheFirst);
    return fmt::format(
        "its layers 0 and {} have different tensors, and config.json has no list that tells which layer is of which kind",
        other - own.tensors.begin());
}

}  // namespace aimerge
