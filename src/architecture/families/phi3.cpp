#include "architecture/families/families.h"

namespace aimerge {
namespace {

constexpr LinearModule kFusedAttention[] = {{"self_attn.qkv_proj", Activation::AttentionInput},
                                            {"self_attn.o_proj", Activation::AttentionOutput}};
constexpr LinearModule kFusedMlp[] = {{"mlp.gate_up_proj", Activation::MlpInput}, {"mlp.down_proj", Activation::MlpInner}};

}  // namespace

/// As Llama, with one matrix for queries, keys and values, and one for gate and up.
const Family kPhi3Family{.modelTypes = {"phi3", "phi4_multimodal"},
                         .attention = kFusedAttention,
                         .mlp = kFusedMlp,
                         .norms = {"input_layernorm", "post_attention_layernorm"}};

/// The attention of Llama and the MLP of Phi-3.
const Family kGlmFamily{
    .modelTypes = {"glm", "glm4", "glm4v"},
    .attention = kSelfAttention,
    .mlp = kFusedMlp,
    .norms = {"input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"}};

}  // namespace aimerge
