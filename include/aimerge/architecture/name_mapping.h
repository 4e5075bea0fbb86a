#pragma once
// Names of one model's tensors as another version of transformers, or another tool, wrote them: h.0. and transformer.h.0.,
// model.language_model. and language_model.model., model.layers. of a text model within a multimodal one. Only known
// prefixes are exchanged; what is behind them must be the same.

#include "aimerge/architecture/architecture.h"

#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace aimerge {

/// What a program that wraps a model puts before all of its names: "_orig_mod." of torch.compile, "module." of DataParallel.
/// Empty: the name begins with none.
std::string_view wrapperOf(std::string_view tensor);

/// "model.layers.0.mlp.up_proj.weight" of "model.layers.0._orig_mod.mlp.up_proj.weight".
std::string withoutInnerWrappers(std::string_view tensor);

class NameMapping {
public:
    /// @param to the model whose names are wanted; must outlive this
    NameMapping(const Architecture& to, std::span<const TensorInfo> tensors);

    /// The other model's name of a tensor; the name itself where it has that. Layers may be of any number, also of one that
    /// the other has not. nullopt: there is none by known prefixes.
    std::optional<std::string> find(std::string_view tensor) const;

private:
    bool has(std::string_view tensor) const;

    const Architecture& to_;
    std::set<std::string, std::less<>> names_;  // with layer 0 in the place of every layer
};

}  // namespace aimerge
