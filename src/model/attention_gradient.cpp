#include "model/attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <limits>

namespace aimerge {
namespace {

constexpr double kUnseen = -std::numeric_limits<double>::infinity();

/// libtorch's kernels for the GPU: the attention once more, and back.
AttentionGradient onGpu(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key,
                        const at::Tensor& value, const at::Tensor& gradient) {
    const at::AutoGradMode graph(true);
    const auto leaf = [](const at::Tensor& x) { return x.detach().set_requires_grad(true); };
    const at::Tensor q = leaf(query), k = leaf(key), v = leaf(value);
    const at::Tensor mixed = attention(description, splitHeads(q, description.heads),
                                       splitHeads(k, description.keyValueHeads), splitHeads(v, description.keyValueHeads));
    const auto found = torch::autograd::grad({mixed}, {q, k, v}, {gradient});
    return {found[0].contiguous(), found[1].contiguous(), found[2].contiguous()};
}

class OnHost {
public:
    OnHost(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
           const at::Tensor& gradient)
        : description_(description),
          length_(query.size(1)),
          window_(windowOf(description, length_)),
          query_(byKeyHead(query)),
          key_(byKeyHead(key)),
          gradient_(byKeyHead(gradient)),
          wideQuery_(at::mul(query_.to(at::kFloat), description_.scale)),
          wideKey_(key_.to(at::kFloat)),
          wideValue_(byKeyHead(value).to(at::kFloat)),
          // What follows is linear in it: so the gradients with respect to queries and keys have the factor.
          wideGradient_(at::mul(gradient_.to(at::kFloat), description_.scale)),
          queryGradient_(at::empty_like(query_)),
          keyGradient_(at::zeros_like(wideKey_)),
          valueGradient_(at::zeros_like(wideKey_)),
          after_(at::full({kQueriesAtOnce, kQueriesAtOnce}, kUnseen, wideKey_.options()).triu_(1)) {}

    AttentionGradient run() {
        const std::int64_t scores = kQueriesAtOnce * query_.size(2) * length_;
        const std::int64_t headsAtOnce = std::max<std::int64_t>(1, kScoresAtOnce / scores);
        for (std::int64_t head = 0; head < description_.keyValueHeads; head += headsAtOnce)
            for (std::int64_t first = 0; first < length_; first += kQueriesAtOnce)
                addQueries(head, std::min(headsAtOnce, description_.keyValueHeads - head), first,
                           std::min(kQueriesAtOnce, length_ - first));
        return {byToken(queryGradient_), byToken(keyGradient_), byToken(valueGradient_)};
    }

private:
    static constexpr std::int64_t kQueriesAtOnce = 128, kScoresAtOnce = 1 << 20;

    /// [1, length, keyValueHeads * n * headDim] as [keyValueHeads, length, n, headDim]: n is 1 for keys and values.
    at::Tensor byKeyHead(const at::Tensor& x) const {
        return x.view({length_, description_.keyValueHeads, -1, description_.headDim}).transpose(0, 1).contiguous();
    }
    at::Tensor byToken(const at::Tensor& x) const {
        return x.transpose(0, 1).reshape({1, length_, -1}).to(query_.scalar_type());
    }
    /// Some heads and tokens of x, [heads, tokens * n, headDim].
    static at::Tensor part(const at::Tensor& x, std::int64_t head, std::int64_t heads, std::int64_t first,
                           std::int64_t tokens) {
        return x.narrow(0, head, heads).narrow(1, first, tokens).flatten(1, 2);
    }

    /// Hides from queries [first, first + count) what they do not see of keys [firstKey, first + count).
    void hide(at::Tensor& scores, std::int64_t first, std::int64_t count, std::int64_t firstKey) const {
        const std::int64_t keys = scores.size(2);
        const at::Tensor byQuery = scores.view({scores.size(0), count, -1, keys});
        byQuery.narrow(3, keys - count, count).add_(after_.narrow(0, 0, count).narrow(1, 0, count).unsqueeze(1));
        if (window_ > 0)
            byQuery.add_(at::full({count, keys}, kUnseen, scores.options()).tril_(first - firstKey - window_).unsqueeze(1));
    }

    void addQueries(std::int64_t head, std::int64_t heads, std::int64_t first, std::int64_t count) {
        const std::int64_t firstKey = window_ > 0 ? std::max<std::int64_t>(0, first - window_ + 1) : 0;
        const std::int64_t keys = first + count - firstKey;
        const auto ofQueries = [&](const at::Tensor& x) { return part(x, head, heads, first, count); };
        const auto ofKeys = [&](const at::Tensor& x) { return part(x, head, heads, firstKey, keys); };

        at::Tensor scores = at::bmm(ofQueries(wideQuery_), ofKeys(wideKey_).transpose(1, 2)), capped;
        if (description_.softcap > 0) {
            capped = scores.div_(description_.softcap).tanh_();
            scores = capped * description_.softcap;
        }
        hide(scores, first, count, firstKey);
        const at::Tensor weights = at::softmax(scores, -1);
        const at::Tensor byWeight = at::bmm(ofQueries(wideGradient_), ofKeys(wideValue_).transpose(1, 2));
        at::Tensor byScore = at::_softmax_backward_data(byWeight, weights, -1, at::kFloat);
        if (capped.defined()) byScore = at::tanh_backward(byScore, capped);

        const at::ScalarType dtype = query_.scalar_type();
        byScore = byScore.to(dtype);
        const auto add = [&](at::Tensor& sum, const at::Tensor& left, const at::Tensor& right) {
            const at::Tensor product = at::bmm(left.transpose(1, 2), right);
            sum.narrow(0, head, heads).narrow(1, firstKey, keys).add_(product.unsqueeze(2));
        };
        add(valueGradient_, weights.to(dtype), ofQueries(gradient_));
        add(keyGradient_, byScore, ofQueries(query_));
        at::Tensor rows = queryGradient_.narrow(0, head, heads).narrow(1, first, count);
        rows.copy_(at::bmm(byScore, ofKeys(key_)).view(rows.sizes()));
    }

    const AttentionDescription& description_;
    std::int64_t length_;
    std::int64_t window_;
    at::Tensor query_, key_, gradient_;                          // by key head
    at::Tensor wideQuery_, wideKey_, wideValue_, wideGradient_;  // float32
    at::Tensor queryGradient_, keyGradient_, valueGradient_;     // the latter two float32
    at::Tensor after_;                                           // [queries, keys] of one block
};

}  // namespace

AttentionGradient attentionGradient(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value, const at::Tensor& gradient) {
    if (!query.is_cpu()) return onGpu(description, query, key, value, gradient);
    return OnHost(description, query, key, value, gradient).run();
}

}  // namespace aimerge
