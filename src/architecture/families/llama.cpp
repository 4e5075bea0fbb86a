#include "architecture/families/families.h"

namespace aimerge {

/// Projections of their own for queries, keys and values, and a gated MLP: most decoders since Llama.
const Family kLlamaFamily{
    .modelTypes = {"llama",      "mistral",     "ministral",    "ministral3",       "mistral3", "qwen2",
                   "qwen3",      "qwen2_5_vl",  "qwen2_vl",     "qwen3_vl",         "gemma",    "gemma2",
                   "gemma3",     "gemma3_text", "internlm3",    "seed_oss",         "granite",  "olmo",
                   "olmo2",      "olmo3",       "cohere",       "hunyuan_v1_dense", "ernie4_5", "stablelm",
                   "helium",     "mixtral",     "qwen2_moe",    "qwen3_moe",        "olmoe",    "phimoe",
                   "granitemoe", "glm4_moe",    "ernie4_5_moe", "hunyuan_v1_moe",   "minimax",  "dots1"},
    .attention = kSelfAttention,
    .mlp = kGatedMlp,
    .norms = {"input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
              "self_attn.q_norm", "self_attn.k_norm"}};

/// As Llama; which layers rotate, config.json says in a list (no_rope_layers, layer_types).
const Family kRotaryInSomeLayersFamily{.modelTypes = {"smollm3", "exaone4", "cohere2"},
                                       .attention = kSelfAttention,
                                       .mlp = kGatedMlp,
                                       .norms = {"input_layernorm", "post_attention_layernorm", "post_feedforward_layernorm",
                                                 "self_attn.q_norm", "self_attn.k_norm"},
                                       .positions = Positions::RotaryInSomeLayers};

}  // namespace aimerge
