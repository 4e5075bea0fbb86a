#include "model/attention.h"
#include "model/block.h"
#include "model/module_gradients.h"
#include "model/norm_block.h"
#include "model/rotary_tables.h"

#include <ATen/ATen.h>

#include <optional>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

/// Queries, keys and values of all tokens: [sequences, length, heads * headDim].
struct Projected {
    at::Tensor query, key, value;
};

class AttentionBlock : public Block {
public:
    AttentionBlock(const AttentionDescription& attention, const RotaryTables* rotation)
        : attention_(attention), norms_(attention.headNorms()) {
        if (rotation) rotation_ = *rotation;
    }

    std::int64_t stops() const override { return 2 + static_cast<std::int64_t>(norms_.size()); }

    at::Tensor inputAt(std::int64_t stop, const LayerState& state) const override {
        if (stop == 0) return state.at(attention_.from);
        if (stop == outputStop()) return state.input;
        const HeadNorm& norm = normAt(stop);
        return rowsOf(norm, norm.isOfQueries ? state.query : state.key);
    }

    void forward(std::int64_t stop, BlockWeights weights, LayerState& state, Tensors* kept,
                 Tensors* outputs) const override {
        if (stop == outputStop()) {
            const ModuleWeights& output = weights.back();
            state.input = at::linear(state.input, outputsFirst(attention_.output, output.weight), output.bias);
            if (outputs) *outputs = {state.input};
            return;
        }
        if (stop == 0) {
            project(weights, state, kept, outputs);
            if (hasNorms()) return;
        } else {
            const HeadNorm& norm = normAt(stop);
            at::Tensor& x = norm.isOfQueries ? state.query : state.key;
            place(norm, normalise(norm.norm, weights[moduleOf(stop)], rowsOf(norm, x)), x);
            if (stop + 1 < outputStop()) return;
        }
        attend(state, kept);
    }

    void backward(BlockWeights weights, const Tensors& kept, LayerGradient& gradient,
                  const ModuleGradients& modules) const override {
        const at::Tensor mixed = modules.linear(weights.size() - 1, weights.back(), kept[kMixed], gradient.input);
        AttentionGradient by = attentionGradient(attention_, kept[kQuery], kept[kKey], kept[kValue], mixed);
        if (!attention_.normalisesRotated) rotateGradientsBack(by);
        if (hasNorms()) {
            for (std::int64_t stop = 1; stop < outputStop(); ++stop) {
                const HeadNorm& norm = normAt(stop);
                const std::size_t module = moduleOf(stop);
                at::Tensor& gradientOfHeads = norm.isOfQueries ? by.query : by.key;
                const at::Tensor plain = rowsOf(norm, kept[norm.isOfQueries ? kPlainQuery : kPlainKey]);
                place(norm, normGradient(norm.norm, weights[module], plain, rowsOf(norm, gradientOfHeads), modules, module),
                      gradientOfHeads);
            }
        }
        if (attention_.normalisesRotated) rotateGradientsBack(by);
        gradient.add(attention_.from, throughProjections(weights, kept[kEntering], by, modules));
    }

private:
    enum Slot { kEntering, kQuery, kKey, kValue, kMixed, kPlainQuery, kPlainKey, kKeptTensors };  // of what is kept

    bool hasNorms() const { return !norms_.empty(); }
    std::int64_t outputStop() const { return stops() - 1; }
    const HeadNorm& normAt(std::int64_t stop) const { return norms_[static_cast<std::size_t>(stop - 1)]; }
    /// The norm's number among the block's modules.
    std::size_t moduleOf(std::int64_t stop) const {
        return attention_.projections.size() + static_cast<std::size_t>(stop - 1);
    }

    // ---- projections

    /// For queries (0), keys (1) or values (2): a part of the matrix where it has them one after another. Three products:
    /// one product over joined weights is no faster (within 3 %).
    at::Tensor product(BlockWeights weights, std::size_t number, const at::Tensor& x) const {
        if (attention_.fusion == Fusion::None)
            return at::linear(x, outputsFirst(attention_.projections[number], weights[number].weight), weights[number].bias);
        const std::int64_t queries = attention_.queryChannels(), keys = attention_.keyChannels();
        const std::int64_t first = number == 0 ? 0 : queries + static_cast<std::int64_t>(number - 1) * keys;
        const std::int64_t count = number == 0 ? queries : keys;
        const ModuleWeights& all = weights.front();
        return at::linear(x, outputsFirst(attention_.projections.front(), all.weight).narrow(0, first, count),
                          all.bias.defined() ? all.bias.narrow(0, first, count) : at::Tensor());
    }

    std::int64_t queriesPerKey() const { return attention_.heads / attention_.keyValueHeads; }

    /// [sequences, length, keyValueHeads, queries and key and value, headDim]
    at::Tensor byKeyHead(const at::Tensor& x) const {
        return x.view({x.size(0), x.size(1), attention_.keyValueHeads, queriesPerKey() + 2, attention_.headDim});
    }

    Projected split(const at::Tensor& all) const {
        const auto part = [&](std::int64_t first, std::int64_t count) {
            return byKeyHead(all).narrow(3, first, count).reshape({all.size(0), all.size(1), -1});
        };
        return {part(0, queriesPerKey()), part(queriesPerKey(), 1), part(queriesPerKey() + 1, 1)};
    }

    at::Tensor join(const Projected& parts) const {
        const auto heads = [&](const at::Tensor& x) {
            return x.view({x.size(0), x.size(1), attention_.keyValueHeads, -1, attention_.headDim});
        };
        return at::cat({heads(parts.query), heads(parts.key), heads(parts.value)}, 3).flatten(2);
    }

    void project(BlockWeights weights, LayerState& state, Tensors* kept, Tensors* outputs) const {
        const at::Tensor entering = state.at(attention_.from);
        if (kept) {
            kept->resize(kKeptTensors);
            (*kept)[kEntering] = entering;
        }
        if (attention_.fusion == Fusion::ByKeyHead) {
            const at::Tensor all = at::linear(entering, outputsFirst(attention_.projections.front(), weights.front().weight),
                                              weights.front().bias);
            const Projected parts = split(all);
            state.query = parts.query, state.key = parts.key, state.value = parts.value;
            if (outputs) *outputs = {all};
        } else {
            state.query = product(weights, 0, entering);
            state.key = product(weights, 1, entering);
            state.value = product(weights, 2, entering);
            if (outputs && attention_.fusion == Fusion::Concatenated)
                *outputs = {at::cat({state.query, state.key, state.value}, -1)};
            else if (outputs)  // the rotation works in place
                *outputs = {state.query.clone(), state.key.clone(), state.value};
        }
        if (attention_.from == Stream::Input) state.input = at::Tensor();
        if (attention_.normalisesRotated) rotateHeads(state);
        if (kept && hasNorms()) {
            (*kept)[kPlainQuery] = state.query, (*kept)[kPlainKey] = state.key;
            if (attention_.normalisesEachHead)  // which writes to them, head by head
                state.query = state.query.clone(), state.key = state.key.clone();
        }
    }

    at::Tensor throughProjections(BlockWeights weights, const at::Tensor& entering, const AttentionGradient& by,
                                  const ModuleGradients& modules) const {
        if (attention_.fusion == Fusion::ByKeyHead)
            return modules.linear(0, weights.front(), entering, join({by.query, by.key, by.value}));
        if (attention_.fusion == Fusion::Concatenated)
            return modules.linear(0, weights.front(), entering, at::cat({by.query, by.key, by.value}, -1));
        at::Tensor sum = modules.linear(0, weights[0], entering, by.query);
        sum.add_(modules.linear(1, weights[1], entering, by.key));
        return sum.add_(modules.linear(2, weights[2], entering, by.value));
    }

    // ---- heads

    /// Queries or keys, as rows of a norm's channels: [sequences, rows, channels].
    static at::Tensor rowsOf(const HeadNorm& norm, const at::Tensor& x) {
        return x.narrow(-1, norm.first, norm.channels).contiguous().view({x.size(0), -1, norm.norm.channels});
    }

    /// What a norm made of its rows, or their gradient, among all queries or keys.
    static void place(const HeadNorm& norm, const at::Tensor& rows, at::Tensor& x) {
        if (norm.channels == x.size(-1))
            x = rows.view(x.sizes());
        else
            x.narrow(-1, norm.first, norm.channels).copy_(rows.view({x.size(0), x.size(1), norm.channels}));
    }

    void rotateHeads(LayerState& state) const {
        if (!rotation_) return;
        rotate(state.query, *rotation_, attention_.heads);
        rotate(state.key, *rotation_, attention_.keyValueHeads);
    }

    void rotateGradientsBack(AttentionGradient& by) const {
        if (!rotation_) return;
        rotateBack(by.query, *rotation_, attention_.heads);
        rotateBack(by.key, *rotation_, attention_.keyValueHeads);
    }

    /// From queries, keys and values to the input of the output's projection.
    void attend(LayerState& state, Tensors* kept) const {
        if (!attention_.normalisesRotated) rotateHeads(state);
        state.input =
            attention(attention_, splitHeads(state.query, attention_.heads), splitHeads(state.key, attention_.keyValueHeads),
                      splitHeads(state.value, attention_.keyValueHeads));
        if (kept) {
            (*kept)[kQuery] = state.query, (*kept)[kKey] = state.key, (*kept)[kValue] = state.value;
            (*kept)[kMixed] = state.input;
        }
        state.query = state.key = state.value = at::Tensor();
    }

    AttentionDescription attention_;
    std::vector<HeadNorm> norms_;
    std::optional<RotaryTables> rotation_;
};

}  // namespace

std::unique_ptr<Block> makeBlock(const AttentionDescription& attention, const RotaryTables* rotation) {
    return std::make_unique<AttentionBlock>(attention, rotation);
}

}  // namespace aimerge
