#include "aimerge/model/decoder.h"

namespace aimerge {

std::vector<LinearWeights*> linearLayersAt(ActivationPoint point, LayerWeights& weights) {
    switch (point) {
        case ActivationPoint::AttentionInput:
            return {&weights.query, &weights.key, &weights.value};
        case ActivationPoint::FusedAttentionInput:
            return {&weights.attentionInput};
        case ActivationPoint::AttentionOutput:
            return {&weights.output};
        case ActivationPoint::MlpInput:
            return {&weights.gate, &weights.up};
        case ActivationPoint::FusedMlpInput:
            return {&weights.mlpInput};
        case ActivationPoint::MlpOutput:
            return {&weights.down};
        default:
            return {};
    }
}

at::Tensor* normAt(ActivationPoint point, LayerWeights& weights) {
    switch (point) {
        case ActivationPoint::InputNorm:
            return &weights.inputNorm;
        case ActivationPoint::QueryNorm:
            return &weights.queryNorm;
        case ActivationPoint::KeyNorm:
            return &weights.keyNorm;
        case ActivationPoint::PostAttentionNorm:
            return &weights.postAttentionNorm;
        case ActivationPoint::PreFeedforwardNorm:
            return &weights.preFeedforwardNorm;
        case ActivationPoint::PostFeedforwardNorm:
            return &weights.postFeedforwardNorm;
        default:
            return nullptr;
    }
}

}  // namespace aimerge
