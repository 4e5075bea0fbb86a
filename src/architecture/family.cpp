#include "aimerge/architecture/family.h"

#include "architecture/families/families.h"

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

constexpr std::array kFamilies{&kLlamaFamily,  &kRotaryInSomeLayersFamily,
                               &kPhi3Family,   &kGlmFamily,
                               &kGpt2Family,   &kGptBigCodeFamily,
                               &kGptOssFamily, &kQwen3VlMoeFamily,
                               &kLlama4Family, &kT5Family,
                               &kRwkvFamily,   &kModernBertFamily,
                               &kJambaFamily,  &kLfm2Family};

}  // namespace

std::string_view positionsName(Positions positions) {
    switch (positions) {
        case Positions::Rotary:
            return "rotary";
        case Positions::RotaryInSomeLayers:
            return "rotary in some layers";
        case Positions::Learnt:
            return "learnt";
        case Positions::Relative:
            return "relative";
        case Positions::Unsaid:
            return "none";
    }
    return {};
}

const Family* findFamily(std::string_view modelType) {
    const auto* const found = std::ranges::find_if(kFamilies, [&](const Family* family) {
        return std::ranges::find(family->modelTypes, modelType) != family->modelTypes.end();
    });
    return found == kFamilies.end() ? nullptr : *found;
}

const LinearModule* findModule(const Family* family, std::string_view nameInLayer) {
    if (family == nullptr) return nullptr;
    for (const std::span<const LinearModule> modules : {family->attention, family->mlp}) {
        const auto found = std::ranges::find(modules, nameInLayer, &LinearModule::name);
        if (found != modules.end()) return &*found;
    }
    return nullptr;
}

const LinearModule& firstWithInput(const Family& family, Activation input) {
    const bool isOfAttention = input == Activation::AttentionInput || input == Activation::AttentionOutput;
    return *std::ranges::find(isOfAttention ? family.attention : family.mlp, input, &LinearModule::input);
}

}  // namespace aimerge
