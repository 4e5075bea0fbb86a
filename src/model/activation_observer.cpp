#include "aimerge/model/activation_observer.h"

#include <fmt/format.h>

namespace aimerge {
namespace {

std::vector<const char*> moduleNames(ActivationPoint point) {
    switch (point) {
        case ActivationPoint::InputNorm:
            return {"input_layernorm"};
        case ActivationPoint::AttentionInput:
            return {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
        case ActivationPoint::AttentionOutput:
            return {"self_attn.o_proj"};
        case ActivationPoint::PostAttentionNorm:
            return {"post_attention_layernorm"};
        case ActivationPoint::MlpInput:
            return {"mlp.gate_proj", "mlp.up_proj"};
        case ActivationPoint::MlpOutput:
            return {"mlp.down_proj"};
        case ActivationPoint::FinalNorm:
            return {"model.norm"};
        case ActivationPoint::Head:
            return {"lm_head"};
        case ActivationPoint::QueryNorm:
            return {"self_attn.q_norm"};
        case ActivationPoint::KeyNorm:
            return {"self_attn.k_norm"};
        case ActivationPoint::FusedAttentionInput:
            return {"self_attn.qkv_proj"};
        case ActivationPoint::FusedMlpInput:
            return {"mlp.gate_up_proj"};
        case ActivationPoint::PreFeedforwardNorm:
            return {"pre_feedforward_layernorm"};
        case ActivationPoint::PostFeedforwardNorm:
            return {"post_feedforward_layernorm"};
    }
    return {};
}

}  // namespace

std::vector<std::string> modulesAt(ActivationPoint point, std::int64_t layer) {
    const bool inLayer = point != ActivationPoint::FinalNorm && point != ActivationPoint::Head;
    std::vector<std::string> modules;
    for (const char* name : moduleNames(point))
        modules.push_back(inLayer ? fmt::format("model.layers.{}.{}", layer, name) : name);
    return modules;
}

}  // namespace aimerge
