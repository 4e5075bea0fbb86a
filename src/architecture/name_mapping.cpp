#include "aimerge/architecture/name_mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace aimerge {
namespace {

/// What programs put before a whole model's names: torch.compile, DataParallel, PEFT, FSDP, checkpointed activations.
constexpr std::array<std::string_view, 5> kWrappers{"_orig_mod.", "module.", "base_model.model.", "_fsdp_wrapped_module.",
                                                    "_checkpoint_wrapped_module."};

/// What programs put between a module and its parts: torch.compile, FSDP, checkpointed activations.
constexpr std::array<std::string_view, 3> kInnerWrappers{"._orig_mod.", "._fsdp_wrapped_module.",
                                                         "._checkpoint_wrapped_module."};

/// What stands before the layers of a decoder, and before its embedding and its last norm. Longer ones first.
constexpr std::array<std::string_view, 9> kRoots{"model.language_model.model.",
                                                 "language_model.model.",
                                                 "model.language_model.",
                                                 "model.text_model.",
                                                 "text_model.",
                                                 "transformer.",
                                                 "gpt_neox.",
                                                 "backbone.",
                                                 "model."};

/// What classes around a model put before all of its names.
constexpr std::array<std::string_view, 4> kOuter{"model.", "transformer.", "bert.", "roberta."};

constexpr std::array<std::string_view, 4> kHeadPrefixes{"lm_head.", "language_model.lm_head.", "model.lm_head.",
                                                        "embed_out."};

/// The name with layer 0 for its layer.
std::string withoutNumber(const Architecture& architecture, std::string_view tensor) {
    return architecture.placeOf(tensor).isNumbered() ? architecture.withLayer(tensor, 0) : std::string(tensor);
}

}  // namespace

std::string_view wrapperOf(std::string_view tensor) {
    const auto* const found =
        std::ranges::find_if(kWrappers, [&](std::string_view wrapper) { return tensor.starts_with(wrapper); });
    return found == kWrappers.end() ? std::string_view() : *found;
}

std::string withoutInnerWrappers(std::string_view tensor) {
    std::string name(tensor);
    for (const std::string_view wrapper : kInnerWrappers)
        for (std::size_t at = name.find(wrapper); at != std::string::npos; at = name.find(wrapper, at))
            name.erase(at + 1, wrapper.size() - 1);
    return name;
}

NameMapping::NameMapping(const Architecture& to, std::span<const TensorInfo> tensors) : to_(to) {
    for (const TensorInfo& tensor : tensors) names_.insert(withoutNumber(to, tensor.name));
    // A head that is tied and not stored has a name, too.
    if (!to.head().empty()) names_.insert(to.head());
}

bool NameMapping::has(std::string_view tensor) const {
    return names_.contains(withoutNumber(to_, tensor));
}

std::optional<std::string> NameMapping::find(std::string_view tensor) const {
    if (has(tensor)) return std::string(tensor);
    if (const std::string_view wrapper = wrapperOf(tensor); !wrapper.empty()) return find(tensor.substr(wrapper.size()));
    if (std::string plain = withoutInnerWrappers(tensor); plain != tensor) return find(plain);
    std::optional<std::string> found;
    const auto accept = [&](std::string candidate) {
        if (!found && has(candidate)) found = std::move(candidate);
    };
    if (!to_.stacks().empty()) {
        const std::string_view root = to_.stacks().front().root();
        for (const std::string_view own : kRoots)
            if (tensor.starts_with(own)) accept(fmt::format("{}{}", root, tensor.substr(own.size())));
        accept(fmt::format("{}{}", root, tensor));
    }
    for (const std::string_view head : kHeadPrefixes)
        if (tensor.starts_with(head) && !to_.head().empty())
            accept(fmt::format("{}.{}", moduleOf(to_.head()), tensor.substr(head.size())));
    for (const std::string_view outer : kOuter) {
        if (tensor.starts_with(outer)) accept(std::string(tensor.substr(outer.size())));
        accept(fmt::format("{}{}", outer, tensor));
    }
    return found;
}

}  // namespace aimerge
