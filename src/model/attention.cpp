#include "model/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
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

/// Scores in memory at once, unless those of one head are more: the scores of a long sequence are large, and those of a
/// short one too few for a product or for the threads.
constexpr std::int64_t kScoresAtOnce = std::int64_t{1} << 19;

/// As transformers' eager attention, for some heads at a time.
at::Tensor cappedAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, double scale, double cap,
                           const at::Tensor& mask) {
    const std::int64_t heads = query.size(1), queriesPerKey = heads / key.size(1);
    const std::int64_t ofOne = query.size(0) * mask.numel(),
                       atOnce = std::clamp(kScoresAtOnce / ofOne, std::int64_t{1}, heads);
    std::vector<at::Tensor> mixed;
    for (std::int64_t first = 0; first < heads; first += atOnce) {
        const std::int64_t end = std::min(first + atOnce, heads);
        const at::Tensor shared =
            at::arange(first, end, at::TensorOptions(at::kLong).device(key.device())).floor_divide_(queriesPerKey);
        at::Tensor scores = at::matmul(query.narrow(1, first, end - first), key.index_select(1, shared).transpose(2, 3));
        scores = at::tanh(scores.mul_(scale).div_(cap)) * cap;
        const at::Tensor weights =
            at::softmax(scores.masked_fill_(mask, -std::numeric_limits<float>::infinity()), -1, at::kFloat)
                .to(query.scalar_type());
        mixed.push_back(at::matmul(weights, value.index_select(1, shared)));
    }
    return at::cat(mixed, 1);
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
