#pragma once
// A block of a decoder layer: its forward and its backward pass beside each other in one file, by the block's description
// (architecture/decoder_description.h), which says its parameters, FLOPs and memory. A new mechanism is one more block.

#include "aimerge/model/layer_state.h"

#include <memory>
#include <span>

namespace aimerge {

class ModuleGradients;
struct RotaryTables;

/// Gradients with respect to the streams. What has none yet is undefined.
struct LayerGradient {
    at::Tensor hidden, input, kept;

    at::Tensor& at(Stream stream) { return stream == Stream::Hidden ? hidden : stream == Stream::Input ? input : kept; }
    /// @param gradient a tensor of the caller's own
    void add(Stream stream, const at::Tensor& gradient) {
        at::Tensor& sum = at(stream);
        sum = stream != Stream::Input && sum.defined() ? gradient.add_(sum) : gradient;
    }
};

using BlockWeights = std::span<const ModuleWeights>;

class Block {
public:
    virtual ~Block() = default;

    /// How many times sequences stop before modules, in the order of the block's inputs; without any, it runs by itself.
    virtual std::int64_t stops() const = 0;
    /// What enters the modules of a stop.
    virtual at::Tensor inputAt(std::int64_t stop, const LayerState& state) const = 0;
    /// From a stop to the block's next one, or to its end.
    /// @param kept null, or gets what backward() needs. Then Hidden is not written to in place
    /// @param outputs null, or gets what the stop's modules give, in their order
    virtual void forward(std::int64_t stop, BlockWeights weights, LayerState& state, Tensors* kept,
                         Tensors* outputs) const = 0;
    /// The whole block, from its outputs to its inputs.
    virtual void backward(BlockWeights weights, const Tensors& kept, LayerGradient& gradient,
                          const ModuleGradients& modules) const = 0;
};

std::unique_ptr<Block> makeBlock(const NormDescription& norm);
/// @param rotation null where the layer has none
std::unique_ptr<Block> makeBlock(const AttentionDescription& attention, const RotaryTables* rotation);
std::unique_ptr<Block> makeBlock(const MlpDescription& mlp);
std::unique_ptr<Block> makeBlock(const AddDescription& add);

}  // namespace aimerge
