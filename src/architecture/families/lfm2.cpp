#include "architecture/families/families.h"

namespace aimerge {
namespace {

constexpr LinearModule kAttention[] = {{"self_attn.q_proj", Activation::AttentionInput},
                                       {"self_attn.k_proj", Activation::AttentionInput},
                                       {"self_attn.v_proj", Activation::AttentionInput},
                                       {"self_attn.out_proj", Activation::AttentionOutput}};
constexpr LinearModule kGatedFeedForward[] = {{"feed_forward.w1", Activation::MlpInput},
                                              {"feed_forward.w3", Activation::MlpInput},
                                              {"feed_forward.w2", Activation::MlpInner}};

}  // namespace

/// Its last norm is called embedding_norm.
const Family kLfm2Family{.modelTypes = {"lfm2", "lfm2_moe", "lfm2_vl"},
                         .attention = kAttention,
                         .mlp = kGatedFeedForward,
                         .norms = {"operator_norm", "ffn_norm", "self_attn.q_layernorm", "self_attn.k_layernorm"},
                         .behindLayers = {"model.embedding_norm"}};

}  // namespace aimerge
