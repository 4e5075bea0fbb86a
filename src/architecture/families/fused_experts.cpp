#include "architecture/families/families.h"

namespace aimerge {
namespace {

constexpr LinearModule kFeedForward[] = {{"feed_forward.gate_proj", Activation::MlpInput},
                                         {"feed_forward.up_proj", Activation::MlpInput},
                                         {"feed_forward.down_proj", Activation::MlpInner}};

}  // namespace

/// The experts of a layer in one tensor, [experts, in, out].
const Family kGptOssFamily{.modelTypes = {"gpt_oss"},
                           .attention = kSelfAttention,
                           .norms = {"input_layernorm", "post_attention_layernorm"},
                           .expertLayout = ExpertLayout::InOut};

/// The hub's checkpoints have [experts, in, out], those of transformers 5 [experts, out, in].
const Family kQwen3VlMoeFamily{
    .modelTypes = {"qwen3_vl_moe", "qwen3_vl_moe_text"},
    .attention = kSelfAttention,
    .norms = {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"},
    .expertLayout = ExpertLayout::Either};

/// Layers without rotary positions, dense layers and experts alternate by the number of the layer.
const Family kLlama4Family{.modelTypes = {"llama4", "llama4_text"},
                           .attention = kSelfAttention,
                           .mlp = kFeedForward,
                           .norms = {"input_layernorm", "post_attention_layernorm"},
                           .scalesExpertInputs = true,
                           .positions = Positions::RotaryInSomeLayers,
                           .expertLayout = ExpertLayout::InOut,
                           .byNumber =
                               "Llama 4's layers with and without rotary positions, with and without experts alternate by "
                               "number (no_rope_layers, interleave_moe_layer_step)"};

}  // namespace aimerge
