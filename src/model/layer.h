#pragma once
// A decoder layer: the blocks of its description, one after another.

#include "model/block.h"
#include "model/module_gradients.h"
#include "model/rotary_tables.h"

#include <functional>
#include <memory>
#include <vector>

namespace aimerge {

class Layer {
public:
    /// @param rotations DecoderDescription::rotations, as tables
    Layer(const LayerDescription& description, const std::vector<RotaryTables>& rotations);

    const std::vector<ModuleDescription>& modules() const { return modules_; }
    std::int64_t stops() const { return stops_; }

    /// What enters the modules that the state stands before.
    at::Tensor inputAt(const LayerState& state) const;
    /// From one stop to the next, or to the layer's end, where the state's number is 0 again.
    void advance(const LoadedLayer& weights, LayerState& state, KeptLayer* kept, Tensors* outputs) const;
    /// @return the gradient with respect to the layer's input, from that with respect to its output
    at::Tensor backward(const LoadedLayer& weights, const KeptLayer& kept, const at::Tensor& gradient,
                        const ModuleGradients::NameOf& nameOf, GradientObserver* observer) const;

private:
    struct Placed {
        std::unique_ptr<Block> block;
        std::size_t firstModule = 0, modules = 0;
        std::int64_t firstStop = 0;

        BlockWeights of(const LoadedLayer& weights) const { return BlockWeights(weights).subspan(firstModule, modules); }
    };

    std::size_t blockAt(std::int64_t stop) const;

    std::vector<ModuleDescription> modules_;
    std::vector<Placed> blocks_;
    std::int64_t stops_ = 0;
};

}  // namespace aimerge
