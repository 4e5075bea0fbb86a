#include "aimerge/architecture/parameter_name.h"

#include <charconv>
#include <tuple>

namespace aimerge {
namespace {

constexpr std::string_view kEmbedding = "model.embed_tokens.weight";
constexpr std::string_view kHead = "lm_head.weight";
constexpr std::string_view kLayerPrefix = "model.layers.";
constexpr std::string_view kWeightSuffix = ".weight";

/// The layer of "model.layers.12.mlp.up_proj.weight"; -1 for other names, also those whose number is not written plainly.
std::int64_t layerOf(std::string_view name) {
    if (!name.starts_with(kLayerPrefix)) return -1;
    const std::string_view rest = name.substr(kLayerPrefix.size());
    const std::size_t digits = rest.find('.');
    const bool leadingZero = digits > 1 && rest[0] == '0';
    if (digits == std::string_view::npos || leadingZero) return -1;
    std::int64_t layer = -1;
    const auto [stop, error] = std::from_chars(rest.data(), rest.data() + digits, layer);
    return error == std::errc{} && stop == rest.data() + digits ? layer : -1;
}

}  // namespace

Place placeOf(std::string_view parameterName) {
    if (const std::int64_t layer = layerOf(parameterName); layer >= 0) return {Part::Layer, layer};
    if (parameterName.starts_with("model.embed_tokens.")) return {Part::Embedding};
    if (parameterName.starts_with("model.norm.")) return {Part::FinalNorm};
    if (parameterName.starts_with("lm_head.")) return {Part::Head};
    return {Part::Other};
}

std::string withLayer(std::string_view parameterName, std::int64_t layer) {
    const std::size_t rest = parameterName.find('.', kLayerPrefix.size());
    return std::string(kLayerPrefix) + std::to_string(layer) + std::string(parameterName.substr(rest));
}

bool modelOrderLess(std::string_view a, std::string_view b) {
    const Place placeOfA = placeOf(a), placeOfB = placeOf(b);
    return std::tie(placeOfA.part, placeOfA.layer, a) < std::tie(placeOfB.part, placeOfB.layer, b);
}

std::string_view moduleOfWeight(std::string_view parameterName) {
    if (!parameterName.ends_with(kWeightSuffix)) return {};
    return parameterName.substr(0, parameterName.size() - kWeightSuffix.size());
}

std::string moduleWithSameInput(std::string_view module) {
    for (const auto& [follower, first] :
         {std::pair<std::string_view, std::string_view>{".self_attn.k_proj", ".self_attn.q_proj"},
          {".self_attn.v_proj", ".self_attn.q_proj"},
          {".mlp.up_proj", ".mlp.gate_proj"}}) {
        if (module.ends_with(follower)) return std::string(module.substr(0, module.size() - follower.size())).append(first);
    }
    return std::string(module);
}

bool isVocabularyTensor(std::string_view parameterName) {
    return parameterName == kEmbedding || parameterName == kHead;
}

}  // namespace aimerge
