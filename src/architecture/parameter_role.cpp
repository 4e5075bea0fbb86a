#include "architecture/parameter_role.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>

namespace aimerge {
namespace {

using Words = std::initializer_list<std::string_view>;

bool containsAny(std::string_view text, Words words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return text.find(word) != std::string_view::npos; });
}

bool endsWithAny(std::string_view text, Words ends) {
    return std::ranges::any_of(ends, [&](std::string_view end) { return text.ends_with(end); });
}

/// The last part of a module's name.
std::string_view lastPart(std::string_view module) {
    return module.substr(module.rfind('.') + 1);
}

bool isNormName(std::string_view module) {
    const std::string_view last = lastPart(module);
    return containsAny(module, {"norm", "Norm"}) || containsAny(last, {"ln_", "_ln"}) || last.starts_with("ln") ||
           last.ends_with("layrnorm");
}

bool isHeadName(std::string_view module) {
    return endsWithAny(module, {"lm_head", "embed_out", "shared_head.head", "predictions.decoder", "lm_head.decoder",
                                "vocab_projector"}) ||
           module == "output" || module == "head" || module == "decoder" || module.ends_with("output_projection");
}

bool isEmbeddingName(std::string_view module) {
    const std::string_view last = lastPart(module);
    return containsAny(last, {"embed_tokens", "word_embedding", "tok_embedding", "token_embedding", "embed_in"}) ||
           last == "wte" || last == "embeddings" || last == "embedding" || last == "shared" || last == "tokens_embed";
}

bool isLookupName(std::string_view module) {
    const std::string_view last = lastPart(module);
    return containsAny(last,
                       {"position", "token_type_embedding", "embed_positions", "relative_attention_bias", "pos_embed"}) ||
           last == "wpe" || last == "positions_embed" || last.ends_with("_embedding") || last.ends_with("_embeddings");
}

bool isRouterName(std::string_view module) {
    return endsWithAny(module, {".gate", ".router", "router.layer", "router.classifier", ".gate.wg", "router.proj"});
}

}  // namespace

std::int64_t expertOf(std::string_view tensor) {
    constexpr std::string_view kExperts = "experts.";
    const std::size_t at = tensor.find(kExperts);
    if (at == std::string_view::npos) return -1;
    const char *begin = tensor.data() + at + kExperts.size(), *end = tensor.data() + tensor.size();
    std::int64_t expert = -1;
    const auto [stop, error] = std::from_chars(begin, end, expert);
    return error == std::errc{} && stop != end && *stop == '.' ? expert : -1;
}

Role roleOf(std::string_view tensor, const Shape& shape, const RoleHints& hints) {
    if (isDerivable(tensor, shape) ||
        endsWithAny(tensor, {"running_mean", "running_var", "num_batches_tracked", "position_ids"}))
        return Role::Buffer;
    const std::string_view module = moduleOf(tensor);
    const bool isWeight = module.size() != tensor.size();
    const std::string_view last = lastPart(module);
    if (last == "bias" || last.ends_with("_bias") || last.ends_with("_biases"))
        return shape.size() > 2 ? Role::Other : isLookupName(module) && shape.size() == 2 ? Role::Lookup : Role::Bias;
    if (isWeight && isNormName(module) && shape.size() <= 2) return Role::Norm;
    const bool hasVocabularyRows = shape.size() == 2 && hints.vocabularySize > 0 && shape[0] == hints.vocabularySize;
    if (shape.size() == 2 && isWeight && !hints.isInLayer) {
        if (isHeadName(module)) return Role::Head;
        if (isEmbeddingName(module)) return hasVocabularyRows || hints.vocabularySize == 0 ? Role::Embedding : Role::Lookup;
        if (hasVocabularyRows && containsAny(module, {"embed"})) return Role::Embedding;
    }
    if (shape.size() == 2 && isWeight && hints.isInLayer && hasVocabularyRows) {
        if (isHeadName(module)) return Role::Head;
        if (isEmbeddingName(module)) return Role::Embedding;
    }
    if (shape.size() >= 4) return isWeight ? Role::Convolution : Role::Other;
    if (isLookupName(module) && shape.size() >= 2 && !hasVocabularyRows && !containsAny(module, {"proj", "unembed"}))
        return Role::Lookup;
    if (shape.size() >= 3) {
        if (hints.experts > 1 && shape.size() == 3 && shape[0] == hints.experts) return Role::Experts;
        if (isWeight) return Role::Convolution;
        return hints.isInLayer && std::ranges::all_of(shape, [](std::int64_t axis) { return axis > 1; }) ? Role::Experts
                                                                                                         : Role::Other;
    }
    if (shape.size() != 2) return isWeight && shape.size() == 1 ? Role::Norm : Role::Other;
    if (hints.experts > 1 && shape[0] == hints.experts && isRouterName(module)) return Role::Router;
    return isWeight ? Role::Linear : Role::Other;
}

Part partOutsideLayers(std::string_view tensor) {
    constexpr std::string_view kBias = ".bias";
    const std::string_view module =
        tensor.ends_with(kBias) ? tensor.substr(0, tensor.size() - kBias.size()) : moduleOf(tensor);
    if (isHeadName(module) || containsAny(module, {"embed_out", "unembed"})) return Part::BehindLayers;
    if (isEmbeddingName(module)) return Part::BeforeLayers;
    if (containsAny(module, {"projector", "merger", "connector", "adapter", "mm_"})) return Part::Aside;
    if (containsAny(module, {"embed", "wte", "wpe", "patch", "project_in", "relative_attention_bias", "pre_layrnorm",
                             "pre_layernorm", "ln_pre", "layernorm_embedding", "conv1", "conv2", "rotary"}))
        return Part::BeforeLayers;
    if (containsAny(module, {"norm",       "Norm",     "ln_f",    "ln_out",     "ln_post",     "head",       "score",
                             "classifier", "pooler",   "cls.",    "output",     "project_out", "final",      "predictions",
                             "projection", "proj_out", "decoder", "qa_outputs", "vocab_",      "logit_scale"}))
        return Part::BehindLayers;
    return Part::Aside;
}

}  // namespace aimerge
