#pragma once
// Decoders (architecture/decoder_description.h), one layer at a time: what a pipeline stage needs to run its part of a model. Activations are contiguous tensors [sequences, length, channels] in the compute dtype, BF16 or F32, on
// the decoder's device; every sequence starts at position 0, is not padded, and sees its own tokens only. Values are those
// of transformers, roundings to BF16 included. On the CPU the same input, shapes and number of threads give the same bits,
// whichever layers are run where. On a GPU everything is queued on libtorch's current stream.

#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/device/device.h"
#include "aimerge/model/activation_observer.h"
#include "aimerge/model/layer_state.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

class GradientObserver;
class Layer;

class Decoder {
public:
    /// `weights` must outlive the decoder. `maxLength` is that of the longest sequence. Reads no weights.
    /// @pre computeDtype is BF16 or F32
    /// @throws InputError: what requireRunnable() (architecture/decoder_family.h) does, a rope type that is not supported
    ///         (names those that are), a maxLength above the model's positions
    Decoder(const WeightSource& weights, Dtype computeDtype, std::int64_t maxLength, const Device& device = {});

    const ModelConfig& config() const { return config_; }
    const DecoderDescription& description() const { return *config_.decoder; }
    std::string headParameter() const { return description().head + ".weight"; }
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
    /// @param end of the layers that are loaded one after another: the next one's weights begin to come from the disk
    /// @throws InputError naming the tensor: absent, of another shape, not of a floating type that can be converted
    LoadedLayer loadLayer(std::int64_t layer, std::int64_t end) const;
    LoadedLayer loadLayer(std::int64_t layer) const { return loadLayer(layer, layer + 1); }

    /// What enters the modules of the input that the state stands at.
    at::Tensor inputAt(std::int64_t layer, const LayerState& state) const;
    /// Takes the state through the modules of its input to the next one, or, from the last one, to the first of the next
    /// layer. `hidden` is written to in place.
    /// @param outputs becomes what the modules gave, in the order of modulesAt(); may be null
    void advance(std::int64_t layer, const LoadedLayer& weights, LayerState& state, Tensors* outputs = nullptr) const;

    /// Runs one layer on `hidden` in place. `observer`, if any, sees the input of every module on the way.
    void runLayer(std::int64_t layer, const LoadedLayer& weights, at::Tensor& hidden, ActivationObserver* observer) const;
    /// As runLayer(), and returns what the backward pass needs; `hidden` becomes a new tensor, the old one is what is kept.
    KeptLayer runKeeping(std::int64_t layer, const LoadedLayer& weights, at::Tensor& hidden) const;
    /// The gradients of sum(output * gradient): those with respect to parameters go to the observer, if any.
    /// @param gradient with respect to the layer's output; so is the result with respect to its input: [1, length, hidden]
    at::Tensor backward(std::int64_t layer, const LoadedLayer& weights, const KeptLayer& kept, const at::Tensor& gradient,
                        GradientObserver* observer) const;

    ModuleWeights loadFinalNorm() const;
    /// lm_head, or the embedding where they are tied: [vocabulary, hidden].
    ModuleWeights loadHead() const;

    /// The head's input, from the last layer's output.
    at::Tensor runFinalNorm(const ModuleWeights& finalNorm, const at::Tensor& hidden, ActivationObserver* observer) const;
    /// [sequences, length, vocabulary] in the compute dtype.
    at::Tensor runHead(const ModuleWeights& head, const at::Tensor& normalised) const;
    /// From the gradient with respect to logits [length, vocabulary] to that with respect to the product of the head.
    at::Tensor headGradient(const at::Tensor& logits, const at::Tensor& gradient) const;
    /// As backward(), through the final norm. @param hidden its input
    at::Tensor finalNormGradient(const ModuleWeights& finalNorm, const at::Tensor& hidden, const at::Tensor& gradient,
                                 GradientObserver* observer) const;

private:
    at::Tensor load(const TensorInfo& tensor) const;
    ModuleWeights load(const std::string& module, const Shape& shape, std::int64_t biases) const;
    void startLoading(std::int64_t layer) const;
    const Layer& layer(std::int64_t number) const { return *layers_[static_cast<std::size_t>(number)]; }
    void addPositions(at::Tensor& hidden) const;
    const TensorInfo& embeddingTensor() const;

    const WeightSource& weights_;
    ModelConfig config_;
    at::ScalarType scalarType_;
    at::Device device_;
    std::vector<std::shared_ptr<const Layer>> layers_;
    mutable at::Tensor positions_;  // of a decoder with learnt positions: [maxLength, hidden], once they were read
    mutable std::uint64_t bytesRead_ = 0;
};

}  // namespace aimerge
