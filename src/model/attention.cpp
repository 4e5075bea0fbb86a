#include "model/attention.h"

#include <ATen/ATen.h>

#include <limits>
#include <optional>
#include <vector>

namespace aimerge {
namespace {

/// What a token does not see, [length, length]: what comes after it, and what lies before its window.
at::Tensor unseen(std::int64_t length, std::int64_t window, at::Device device) {
    const at::Tensor positions = at::arange(length, at::TensorOptions(at::kLong).device(device));
    const at::Tensor back = positions.unsqueeze(1) - positions.unsqueeze(0);
    const at::Tensor after = back < 0;
    return window > 0 ? at::logical_or(after, back >= window) : after;
}

/// As transformers' eager attention, one key's heads at a time: the scores of a long sequence are large.
at::Tensor cappedAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, double scale, double cap,
                           const at::Tensor& mask) {
    const std::int64_t queriesPerKey = query.size(1) / key.size(1);
    std::vector<at::Tensor> mixed;
    for (std::int64_t head = 0; head < query.size(1); ++head) {
        const std::int64_t shared = head / queriesPerKey;
        at::Tensor scores = at::matmul(query.select(1, head), key.select(1, shared).transpose(1, 2)) * scale;
        scores = at::tanh(scores / cap) * cap;
        const at::Tensor weights =
            at::softmax(scores.masked_fill(mask, -std::numeric_limits<float>::infinity()), -1, at::kFloat)
                .to(query.scalar_type());
        mixed.push_back(at::matmul(weights, value.select(1, shared)));
    }
    return at::stack(mixed, 1);
}

}  // namespace

at::Tensor splitHeads(const at::Tensor& x, std::int64_t heads) {
    return x.view({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
}

at::Tensor attention(const AttentionDescription& description, const at::Tensor& query, const at::Tensor& key,
                     const at::Tensor& value) {
    const std::int64_t length = query.size(2), window = windowOf(description, length);
    at::Tensor mixed;
    if (description.softcap > 0) {
        mixed = cappedAttention(query, key, value, description.scale, description.softcap,
                                unseen(length, window, query.device()));
    } else {
        const std::optional<at::Tensor> seen =
            window > 0 ? std::optional(at::logical_not(unseen(length, window, query.device()))) : std::nullopt;
        mixed = at::scaled_dot_product_attention(query, key, value, seen, /*dropout_p=*/0.0, /*is_causal=*/!seen,
                                                 description.scale,
                                                 /*enable_gqa=*/description.heads != description.keyValueHeads);
    }
    return mixed.transpose(1, 2).reshape({query.size(0), length, -1});
}

}  // namespace aimerge
