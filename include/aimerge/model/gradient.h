#pragma once
// The gradient of a scalar loss of a decoder's logits with respect to every parameter of a stage's layers, its formulas
// written out (no autograd but for attention on a GPU). The forward pass keeps the input of every layer, and what else the
// backward pass needs if there is memory; else it runs each layer again, so that there is never more than what one layer
// keeps. Bits do not depend on it.

#include "aimerge/model/decoder.h"

#include <functional>
#include <string>
#include <vector>

namespace aimerge {

class GradientObserver {
public:
    virtual ~GradientObserver() = default;
    /// Gets rows [firstRow, firstRow + gradient.size(0)) of a parameter of these sizes: every row once per sequence; for one
    /// parameter, the sequences come in the order of their backward passes.
    /// @param gradient of the parameter's shape but for the rows, in the compute dtype or
    /// float32; only valid during the call
    virtual void observe(const std::string& parameter, at::IntArrayRef sizes, std::int64_t firstRow,
                         const at::Tensor& gradient) = 0;
    /// Gets, of an embedding of `vocabulary` rows, those of the sequence's tokens, once each, in float32, where many tokens
    /// add up. If a head is tied to it, the head's contribution is in them, and that of the other rows is observed under the
    /// head's own name, with zeros in these.
    /// @param rows int64 [n], ascending @param gradient [n, hidden]
    virtual void observeRows(const std::string& parameter, std::int64_t vocabulary, const at::Tensor& rows,
                             const at::Tensor& gradient) = 0;
    /// All sequences of a pass have gone through a layer, forwards or backwards, or the head. May throw.
    virtual void stop() {}
};

/// A scalar loss of the logits [length, vocabulary] of a sequence with these ids, by its gradient with respect to them; both
/// in the compute dtype.
using LossGradient = std::function<at::Tensor(const at::Tensor& logits, std::span<const std::int32_t> ids)>;

/// Sequences that go through the layers together, each differentiated by itself.
struct GradientPass {
    std::span<const std::int32_t> ids;  // row-major [sequences, length]
    std::vector<at::Tensor> states;     // per sequence [1, length, hidden]: what enters, or has left, the stage; going
                                        // backwards, the loss's gradient with respect to it
    std::vector<at::Tensor> tiedRows;   // per sequence: the gradient of a head that is tied to the embedding, of the rows
                                        // that its tokens take, [n, hidden] in float32
    std::vector<std::vector<KeptLayer>> kept;  // per layer and sequence
};

/// What is kept for the next pass, and of each forward pass for its backward pass.
enum class Kept { Nothing, Weights, WeightsAndActivations };

/// Whose gradients are observed; the backward pass goes through all layers.
struct ObservedGradients {
    std::int64_t firstLayer = 0, endLayer = 0;
    bool ofEnds = true;  // embedding, final norm and head
};

class WeightGradient;

/// Layers [firstLayer, endLayer) of a decoder. Passes may go forwards before earlier ones have gone backwards.
/// @pre not used under c10::InferenceMode. Its functions throw as Decoder does.
class StageGradient {
public:
    /// @param length of the sequences
    StageGradient(const Decoder& decoder, std::int64_t firstLayer, std::int64_t endLayer, std::int64_t length, Kept kept,
                  const ObservedGradients& observed, GradientObserver& observer);

    void embed(GradientPass& pass) const;
    void forward(GradientPass& pass);
    /// @pre the pass has gone forwards through the last layer
    void backwardThroughHead(GradientPass& pass, const LossGradient& lossGradient);
    void backward(GradientPass& pass);
    /// @pre the ends' gradients are observed, the pass has gone backwards through the first layer, and has tiedRows where
    /// head and embedding are tied
    void backwardThroughEmbedding(GradientPass& pass);
    /// The ids of a sequence of the pass, once each, ascending.
    std::vector<std::int64_t> tokensOf(const GradientPass& pass, std::size_t sequence) const;

private:
    std::span<const std::int32_t> idsOf(const GradientPass& pass, std::size_t sequence) const;
    LoadedLayer layer(std::int64_t number);
    void observeHead(GradientPass& pass, std::size_t sequence, const WeightGradient& parts);

    const Decoder& decoder_;
    std::int64_t firstLayer_, endLayer_;
    std::size_t length_;
    Kept kept_;
    ObservedGradients observed_;
    GradientObserver& observer_;
    std::vector<LoadedLayer> layers_;  // once they were read, where they are kept
    ModuleWeights finalNorm_, head_;
};

}  // namespace aimerge
