#pragma once
// The gradient of a scalar loss of a decoder's logits with respect to every parameter, layer by layer: the forward pass
// keeps the input of every layer, the backward pass runs each layer again and differentiates it. In memory at a time are one
// layer's weights and graph, and the layers' inputs.

#include "aimerge/model/decoder.h"

#include <functional>
#include <string>

namespace aimerge {

class GradientObserver {
public:
    virtual ~GradientObserver() = default;
    /// Called once per parameter and sequence; of one parameter, the sequences come in ascending order. A head that is tied
    /// to the embedding has no gradient of its own: the embedding's has both contributions.
    /// @param gradient of the parameter's shape, in the compute dtype, that of an embedding in float32, where many tokens
    /// add
    ///        up; only valid during the call
    virtual void observe(const std::string& parameter, const at::Tensor& gradient) = 0;
    /// All sequences have passed a layer, forwards or backwards, or the head: stopsOf(decoder) times in a call. May throw.
    virtual void stop() {}
};

inline std::int64_t stopsOf(const Decoder& decoder) {
    return 2 * decoder.layers() + 1;
}

/// A scalar from the logits [length, vocabulary] (float32) of a sequence with these ids.
using SequenceLoss = std::function<at::Tensor(const at::Tensor& logits, std::span<const std::int32_t> ids)>;

/// Differentiates the loss of each sequence by itself. Every layer is read twice for all of them.
/// @param ids row-major [sequences, length]
/// @pre not called under c10::InferenceMode
/// @throws as Decoder does
void differentiate(const Decoder& decoder, std::span<const std::int32_t> ids, std::int64_t length, const SequenceLoss& loss,
                   GradientObserver& observer);

}  // namespace aimerge
