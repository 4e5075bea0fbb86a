#include "model/decoder_family.h"

#include "aimerge/core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <vector>

namespace aimerge {

std::span<const DecoderFamily* const> decoderFamilies() {
    static constexpr std::array kAll{&kGemma2, &kLlama, &kMistral, &kPhi3, &kQwen2, &kQwen3};
    return kAll;
}

const DecoderFamily& familyOf(const ModelConfig& config, const std::string& model) {
    std::vector<std::string> names;
    for (const DecoderFamily* family : decoderFamilies()) {
        if (config.modelType == family->modelType) return *family;
        names.emplace_back(family->modelType);
    }
    throw InputError(
        "{}: config.json: model_type is \"{}\"; the decoder runs {}. Such a model is merged without an aim section, or with "
        "statistics from elsewhere (aim.statistics)",
        model, config.modelType, fmt::join(names, ", "));
}

}  // namespace aimerge
