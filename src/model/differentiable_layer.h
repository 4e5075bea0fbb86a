#pragma once
// The layers of the decoder in operations that libtorch can differentiate: the values of Decoder::runLayer and runFinalNorm,
// but for rounding. Nothing is done in place.

#include "aimerge/model/decoder.h"

#include <ATen/core/Tensor.h>

namespace aimerge {

/// @param hidden [1, length, hidden]
at::Tensor differentiableLayer(const Decoder& decoder, std::int64_t layer, const LayerWeights& weights,
                               const at::Tensor& hidden);

/// Logits [length, vocabulary] in float32.
at::Tensor differentiableHead(const Decoder& decoder, const at::Tensor& finalNorm, const at::Tensor& head,
                              const at::Tensor& hidden);

}  // namespace aimerge
