#pragma once
// An interface to observe what passes through a decoder: activation statistics and other measurements.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// The places where an activation enters one or several modules.
enum class ActivationPoint {
    InputNorm,          // input_layernorm
    AttentionInput,     // q_proj, k_proj, v_proj
    AttentionOutput,    // o_proj
    PostAttentionNorm,  // post_attention_layernorm
    MlpInput,           // gate_proj, up_proj
    MlpOutput,          // down_proj
    FinalNorm,          // model.norm
    Head,               // lm_head
    // Only in some families:
    QueryNorm,            // q_norm; the channels are those of a head, the rows all heads of all tokens
    KeyNorm,              // k_norm, likewise
    FusedAttentionInput,  // qkv_proj
    FusedMlpInput,        // gate_up_proj
    PreFeedforwardNorm,   // pre_feedforward_layernorm
    PostFeedforwardNorm   // post_feedforward_layernorm
};

/// The modules that share this input; `layer` is of no account for FinalNorm and Head.
std::vector<std::string> modulesAt(ActivationPoint point, std::int64_t layer);

class ActivationObserver {
public:
    virtual ~ActivationObserver() = default;
    /// `input` is contiguous, [sequences, length, channels] in the compute dtype, and only valid during the call.
    virtual void observe(ActivationPoint point, std::int64_t layer, const at::Tensor& input) = 0;
};

}  // namespace aimerge
