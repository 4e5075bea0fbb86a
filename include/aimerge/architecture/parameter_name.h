#pragma once
// What a parameter's name says about its place in the model: "model.layers.12.mlp.up_proj.weight".

#include <cstdint>
#include <string>
#include <string_view>

namespace aimerge {

enum class Part { Embedding, Layer, FinalNorm, Head, Other };

struct Place {
    Part part = Part::Other;
    std::int64_t layer = -1;  // for Part::Layer
};

Place placeOf(std::string_view parameterName);

/// "model.layers.12.mlp.up_proj.weight" with another layer's number. @pre placeOf(parameterName).part is Layer
std::string withLayer(std::string_view parameterName, std::int64_t layer);

/// Model order: embeddings, layers 0..n-1, final norm, head, the rest; by name within each.
bool modelOrderLess(std::string_view a, std::string_view b);

/// "model.layers.0.mlp.up_proj.weight" -> "model.layers.0.mlp.up_proj"; names without the suffix ".weight" give "".
std::string_view moduleOfWeight(std::string_view parameterName);

/// Of the linear layers that one activation enters, the first: q_proj for k_proj and v_proj, gate_proj for up_proj. Any
/// other module is its own.
std::string moduleWithSameInput(std::string_view module);

/// True for model.embed_tokens.weight and lm_head.weight: axis 0 is the vocabulary.
bool isVocabularyTensor(std::string_view parameterName);

}  // namespace aimerge
