#include "architecture/families/families.h"

namespace aimerge {

const Family kJambaFamily{
    .modelTypes = {"jamba"},
    .attention = kSelfAttention,
    .norms = {"input_layernorm", "pre_ff_layernorm"},
    .positions = Positions::Unsaid,
    .byNumber =
        "Jamba's layers of attention, Mamba and experts alternate by number (attn_layer_period, expert_layer_period)"};

}  // namespace aimerge
