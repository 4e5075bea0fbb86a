#pragma once
// The known families, each in a file of its own.

#include "aimerge/architecture/family.h"

namespace aimerge {

/// Projections of their own for queries, keys and values.
inline constexpr LinearModule kSelfAttention[] = {{"self_attn.q_proj", Activation::AttentionInput},
                                                  {"self_attn.k_proj", Activation::AttentionInput},
                                                  {"self_attn.v_proj", Activation::AttentionInput},
                                                  {"self_attn.o_proj", Activation::AttentionOutput}};

inline constexpr LinearModule kGatedMlp[] = {
    {"mlp.gate_proj", Activation::MlpInput}, {"mlp.up_proj", Activation::MlpInput}, {"mlp.down_proj", Activation::MlpInner}};

extern const Family kLlamaFamily, kRotaryInSomeLayersFamily, kPhi3Family, kGlmFamily, kGpt2Family, kGptBigCodeFamily,
    kGptOssFamily, kQwen3VlMoeFamily, kLlama4Family, kT5Family, kRwkvFamily, kModernBertFamily, kJambaFamily, kLfm2Family;

}  // namespace aimerge
