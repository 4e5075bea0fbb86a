#pragma once
// Decoders of the Llama kind (architecture/decoder_family.h), one layer at a time: what a pipeline stage needs to run its
// part of a model. Activations are contiguous tensors [sequences, length, channels] in the compute dtype, BF16 or F32, on
// the decoder's device; every sequence starts at position 0, is not padded, and sees its own tokens only. Values are those
// of transformers, roundings to BF16 included. On the CPU the same input, shapes and number of threads give the same bits,
// whichever layers are run where. On a GPU everything is queued on libtorch's current stream.

#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/device/device.h"
#include "aimerge/model/activation_observer.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

inline constexpr const char *kEmbeddingName = "model.embed_tokens.weight", *kHeadName = "lm_head.weight";

/// The weight of one linear layer, [out, in]; `bias` is undefined where the model has none.
struct LinearWeights {
    at::Tensor weight, bias;
};

/// The weights of one decoder layer in the compute dtype. What its family does not have is undefined.
struct LayerWeights {
    at::Tensor inputNorm, postAttentionNorm;
    at::Tensor queryNorm, keyNorm;                       // of one head
    at::Tensor preFeedforwardNorm, postFeedforwardNorm;  // where attention and MLP have a norm before and one behind
    LinearWeights query, key, value, output, gate, up, down;
    LinearWeights attentionInput, mlpInput;  // query, key and value in one; gate and up in one
};

/// The linear layers whose input a point is, in the order of modulesAt(); none at a norm.
std::vector<LinearWeights*> linearLayersAt(ActivationPoint point, LayerWeights& weights);
/// The weight of the norm at a point; null at linear layers.
at::Tensor* normAt(ActivationPoint point, LayerWeights& weights);

/// What the backward pass through a layer needs of the forward pass. What its family does not have is undefined.
struct LayerTrace {
    at::Tensor input, attentionInput;  // before and behind the first norm: [sequences, length, hidden]
    at::Tensor query, key, value;      // as attention takes them
    at::Tensor plainQuery, plainKey;   // before the norms of heads
    at::Tensor mixed;                  // attention's output, which o_proj takes
    at::Tensor attended, fed;          // before the norms behind attention and MLP
    at::Tensor between, mlpInput;      // before and behind the MLP's norm: [sequences, length, hidden]
    at::Tensor gate, up;               // [sequences, length, intermediate]
};

/// Tables of the rotary embedding: float32 [maxLength, rotated / 2], for the first `rotated` channels of a head (all of
/// them, except with partial_rotary_factor), rounded to the compute dtype.
struct RotaryTables {
    at::Tensor cosines, sines;
};

/// Sequences on their way through a layer: they stand at a point, before its modules.
struct LayerState {
    ActivationPoint point = ActivationPoint::InputNorm;
    at::Tensor hidden;             // the sum of what the branches gave so far: [sequences, length, hidden]
    at::Tensor input;              // what enters the point's modules, and no other tensor
    at::Tensor query, key, value;  // on their way through the norms of heads; else undefined
};

struct DecoderFamily;

class Decoder {
public:
    /// `weights` must outlive the decoder. `maxLength` is that of the longest sequence. Reads no weights.
    /// @pre computeDtype is BF16 or F32
    /// @throws InputError: an architecture, activation or rope type that is not supported (names those that are), sizes in
    ///         config.json that do not fit each other, a maxLength above the model's positions
    Decoder(const WeightSource& weights, Dtype computeDtype, std::int64_t maxLength, const Device& device = {});

    const ModelConfig& config() const { return config_; }
    const DecoderFamily& family() const { return family_; }
    std::int64_t layers() const { return config_.layers; }
    std::int64_t hiddenSize() const { return config_.hiddenSize; }
    at::ScalarType scalarType() const { return scalarType_; }
    at::Device device() const { return device_; }
    /// What embed() multiplies by, rounded to the compute dtype.
    double embeddingScale() const;

    /// An uninitialised activation [sequences, length, hidden].
    at::Tensor emptyHidden(std::int64_t sequences, std::int64_t length) const;

    /// Writes the embeddings of `ids` (row-major [sequences, length]) to `hidden`; reads only the rows it needs.
    /// @throws InputError for an id outside the vocabulary
    void embed(std::span<const std::int32_t> ids, at::Tensor& hidden) const;

    /// Bytes of weights that the loads so far have read.
    std::uint64_t bytesRead() const { return bytesRead_; }

    /// Reads the layer's weights and converts them to the compute dtype.
    /// @throws InputError naming the tensor: absent, of another shape, not of a floating type that can be converted
    LayerWeights loadLayer(std::int64_t layer) const;

    /// The points of a layer, in the order in which sequences come to them.
    std::vector<ActivationPoint> points() const;
    /// Where a layer begins, with what the layer before has left.
    LayerState enterLayer(const at::Tensor& hidden) const;
    /// Takes the state through the modules of its point to the next one, or, from the last one, to the first of the next
    /// layer. `hidden` is written to in place.
    /// @param outputs becomes what the modules gave, in the order of modulesAt(); may be null
    void advance(std::int64_t layer, const LayerWeights& weights, LayerState& state,
                 std::vector<at::Tensor>* outputs = nullptr) const;

    /// Runs one layer on `hidden` in place. `observer`, if any, sees the input of every module on the way.
    void runLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden, ActivationObserver* observer) const;
    /// As runLayer(), and returns what the backward pass needs; `hidden` becomes a new tensor, the old one is in the trace.
    LayerTrace traceLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden) const;

    /// The transpose of the rotation of queries or keys, in place. @param gradient [sequences, length, heads * headDim]
    void rotateBack(at::Tensor& gradient, std::int64_t heads) const;

    at::Tensor loadFinalNorm() const;
    /// lm_head, or the embedding where they are tied: [vocabulary, hidden].
    at::Tensor loadHead() const;

    /// The head's input, from the last layer's output.
    at::Tensor runFinalNorm(const at::Tensor& finalNorm, const at::Tensor& hidden, ActivationObserver* observer) const;
    /// [sequences, length, vocabulary] in the compute dtype.
    at::Tensor runHead(const at::Tensor& head, const at::Tensor& normalised) const;

private:
    at::Tensor load(const TensorInfo& tensor) const;
    at::Tensor normalise(const at::Tensor& x, const at::Tensor& weight) const;
    void runLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden, ActivationObserver* observer,
                  LayerTrace* trace) const;
    void advance(std::int64_t layer, const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs,
                 LayerTrace* trace) const;
    void project(const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs) const;
    void attend(std::int64_t layer, LayerState& state, LayerTrace* trace) const;
    void feed(const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs, LayerTrace* trace) const;
    void add(LayerState& state, const at::Tensor& branch, LayerTrace* trace) const;
    LinearWeights loadLinear(const std::string& module, std::int64_t out, std::int64_t in) const;
    const TensorInfo& embeddingTensor() const;

    const WeightSource& weights_;
    ModelConfig config_;
    const DecoderFamily& family_;
    at::ScalarType scalarType_;
    at::Device device_;
    RotaryTables tables_;
    mutable std::uint64_t bytesRead_ = 0;
};

}  // namespace aimerge
