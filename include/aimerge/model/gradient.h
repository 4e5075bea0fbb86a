#pragma once
// The gradient of a scalar loss of a decoder's logits with respect to every parameter of a stage's layers. The forward pass
// keeps the input of every layer, and its graph where there is room; else the backward pass runs each layer again and
// differentiates it, so that there is never more than one layer's graph. Bits do not depend on what is kept.

#include "aimerge/model/decoder.h"

#include <functional>
#include <string>
#include <vector>

namespace aimerge {

class GradientObserver {
public:
    virtual ~GradientObserver() = default;
    /// Called once per parameter and sequence; of one parameter, the sequences come in the order of their backward passes.
    /// A head that is tied to the embedding has no gradient of its own: the embedding's has both contributions.
    /// @param gradient of the parameter's shape, in the compute dtype; only valid during the call
    virtual void observe(const std::string& parameter, const at::Tensor& gradient) = 0;
    /// Of an embedding of `vocabulary` rows those that the sequence's tokens take, once each, in float32, where many tokens
    /// add up. Other rows have no gradient, or that of a tied head; then observe() was called just before, with zeros in
    /// these. @param rows int64 [n], ascending @param gradient [n, hidden]
    virtual void observeRows(const std::string& parameter, std::int64_t vocabulary, const at::Tensor& rows,
                             const at::Tensor& gradient) = 0;
    /// All sequences of a pass have gone through a layer, forwards or backwards, or the head. May throw.
    virtual void stop() {}
};

/// A scalar loss of the logits [length, vocabulary] (float32, without a graph) of a sequence with these ids, by its gradient
/// with respect to them.
using LossGradient = std::function<at::Tensor(const at::Tensor& logits, std::span<const std::int32_t> ids)>;

/// Sequences that go through the layers together, each differentiated by itself.
struct GradientPass {
    std::span<const std::int32_t> ids;  // row-major [sequences, length]
    std::vector<at::Tensor> states;     // per sequence [1, length, hidden]: what enters, or has left, the stage; going
                                        // backwards, the loss's gradient with respect to it
    std::vector<at::Tensor> tiedHeads;  // per sequence: the gradient of a head that is tied to the embedding
    std::vector<std::vector<at::Tensor>> inputs, outputs;  // per layer and sequence; the latter with kept graphs
};

/// What is there for the next pass, and of each pass for its way back.
enum class Kept { Nothing, Weights, WeightsAndGraphs };

/// Layers [firstLayer, endLayer) of a decoder. Passes may go forwards before earlier ones have gone backwards.
/// @pre not used under c10::InferenceMode. Its functions throw as Decoder does.
class StageGradient {
public:
    /// @param length of the sequences
    StageGradient(const Decoder& decoder, std::int64_t firstLayer, std::int64_t endLayer, std::int64_t length, Kept kept,
                  GradientObserver& observer);

    void embed(GradientPass& pass) const;
    void forward(GradientPass& pass);
    /// @pre the pass has gone forwards through the last layer
    void backwardThroughHead(GradientPass& pass, const LossGradient& lossGradient);
    void backward(GradientPass& pass);
    /// @pre the pass has gone backwards through the first layer, and has tiedHeads where head and embedding are tied
    void backwardThroughEmbedding(GradientPass& pass);

private:
    std::span<const std::int32_t> idsOf(const GradientPass& pass, std::size_t sequence) const;
    LayerWeights layer(std::int64_t number);
    bool keepsGraphs() const { return kept_ == Kept::WeightsAndGraphs; }

    const Decoder& decoder_;
    std::int64_t firstLayer_, endLayer_;
    std::size_t length_;
    Kept kept_;
    GradientObserver& observer_;
    std::vector<LayerWeights> layers_;  // once they were read, where they are kept
    at::Tensor finalNorm_, head_;
};

}  // namespace aimerge
