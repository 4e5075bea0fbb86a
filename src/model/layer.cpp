#include "model/layer.h"

#include <ATen/ATen.h>

#include <utility>

namespace aimerge {
namespace {

std::unique_ptr<Block> blockOf(const BlockDescription& description, const std::vector<RotaryTables>& rotations) {
    if (const auto* attention = std::get_if<AttentionDescription>(&description))
        return makeBlock(*attention, attention->rotation ? &rotations[*attention->rotation] : nullptr);
    if (const auto* mlp = std::get_if<MlpDescription>(&description)) return makeBlock(*mlp);
    if (const auto* norm = std::get_if<NormDescription>(&description)) return makeBlock(*norm);
    return makeBlock(std::get<AddDescription>(description));
}

}  // namespace

Layer::Layer(const LayerDescription& description, const std::vector<RotaryTables>& rotations)
    : modules_(description.modules()) {
    std::size_t module = 0;
    for (const BlockDescription& part : description.blocks) {
        const std::size_t modules = LayerDescription{{part}}.modules().size();
        Placed placed{blockOf(part, rotations), module, modules, stops_};
        module += modules;
        stops_ += placed.block->stops();
        blocks_.push_back(std::move(placed));
    }
}

std::size_t Layer::blockAt(std::int64_t stop) const {
    std::size_t block = 0;
    while (stop >= blocks_[block].firstStop + blocks_[block].block->stops()) ++block;
    return block;
}

at::Tensor Layer::inputAt(const LayerState& state) const {
    const Placed& placed = blocks_[blockAt(state.number)];
    return placed.block->inputAt(state.number - placed.firstStop, state);
}

void Layer::advance(const LoadedLayer& weights, LayerState& state, KeptLayer* kept, Tensors* outputs) const {
    std::size_t number = blockAt(state.number);
    if (kept && state.number == 0) {
        kept->input = state.hidden;
        kept->blocks.resize(blocks_.size());
    }
    const auto run = [&](std::int64_t stop, Tensors* given) {
        const Placed& placed = blocks_[number];
        placed.block->forward(stop, placed.of(weights), state, kept ? &kept->blocks[number] : nullptr, given);
    };
    run(state.number - blocks_[number].firstStop, outputs);
    state.number = (state.number + 1) % stops_;
    const Placed& placed = blocks_[number];
    if (state.number > placed.firstStop && state.number < placed.firstStop + placed.block->stops()) return;
    while (++number < blocks_.size() && blocks_[number].block->stops() == 0) run(0, nullptr);
    if (state.number == 0) state.kept = at::Tensor();
}

at::Tensor Layer::backward(const LoadedLayer& weights, const KeptLayer& kept, const at::Tensor& gradient,
                           const ModuleGradients::NameOf& nameOf, GradientObserver* observer) const {
    LayerGradient by{.hidden = gradient, .input = {}, .kept = {}};
    for (std::size_t number = blocks_.size(); number-- > 0;) {
        const Placed& placed = blocks_[number];
        const auto nameInBlock = [&](std::size_t module) { return nameOf(placed.firstModule + module); };
        const ModuleGradients modules(
            std::span<const ModuleDescription>(modules_).subspan(placed.firstModule, placed.modules), nameInBlock, observer);
        placed.block->backward(placed.of(weights), kept.blocks[number], by, modules);
    }
    return by.hidden;
}

}  // namespace aimerge
