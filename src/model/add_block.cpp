#include "model/block.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

class AddBlock : public Block {
public:
    explicit AddBlock(const AddDescription& add) : factor_(add.factor) {}

    std::int64_t stops() const override { return 0; }
    at::Tensor inputAt(std::int64_t /*stop*/, const LayerState& state) const override { return state.input; }

    void forward(std::int64_t /*stop*/, BlockWeights /*weights*/, LayerState& state, Tensors* kept,
                 Tensors* /*outputs*/) const override {
        const at::Tensor branch = factor_ == 1 ? state.input : state.input * factor_;
        if (kept)
            state.hidden = state.hidden + branch;
        else
            state.hidden.add_(branch);
        state.input = at::Tensor();
    }

    void backward(BlockWeights /*weights*/, const Tensors& /*kept*/, LayerGradient& gradient,
                  const ModuleGradients& /*modules*/) const override {
        gradient.input = factor_ == 1 ? gradient.hidden : gradient.hidden * factor_;
    }

private:
    double factor_;
};

}  // namespace

std::unique_ptr<Block> makeBlock(const AddDescription& add) {
    return std::make_unique<AddBlock>(add);
}

}  // namespace aimerge
