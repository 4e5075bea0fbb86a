#include "calibration/feature_sums.h"

#include "aimerge/model/products.h"
#include "calibration/float64_sum.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

/// So many tokens, or a little more, are one float32 product.
constexpr std::int64_t kTokensPerProduct = 2048;

at::Tensor rowsOf(const at::Tensor& x) {
    return x.reshape({-1, x.size(-1)}).to(at::kFloat);
}

bool isSibling(const PartTree::Node& left, const PartTree::Node& right) {
    return left.count == right.count && left.first % (2 * left.count) == 0 && left.first + left.count == right.first;
}

}  // namespace

FeatureSums::FeatureSums(std::int64_t inputs, std::int64_t outputs, std::int64_t products, at::Device device)
    : inputs_(inputs),
      outputs_(outputs),
      products_(products),
      values_(at::zeros({products + inputs + outputs + 1}, at::TensorOptions(at::kDouble).device(device))) {}

FeatureSums FeatureSums::ofLinearLayers(std::int64_t inputs, std::int64_t outputs, at::Device device) {
    return {inputs, outputs, inputs * (inputs + outputs), device};
}

FeatureSums FeatureSums::ofNorm(std::int64_t channels, at::Device device) {
    return {channels, 0, 0, device};
}

void FeatureSums::addLinear(const at::Tensor& input, std::span<const at::Tensor> outputs) {
    std::vector<at::Tensor> columns{rowsOf(input)};
    for (const at::Tensor& output : outputs) columns.push_back(rowsOf(output));
    pending_.push_back(at::cat(columns, 1));
    pendingTokens_ += input.numel() / inputs_;
    if (pendingTokens_ >= kTokensPerProduct) multiplyPending();
}

void FeatureSums::multiplyPending() {
    if (pending_.empty()) return;
    const at::Tensor rows = pending_.size() == 1 ? pending_.front() : at::cat(pending_, 0);
    pending_.clear();
    at::Tensor products = this->products();
    addTo(products, transposedProduct(rows.narrow(1, 0, inputs_), rows));
    totals().add_(rows.sum(0, /*keepdim=*/false, at::kDouble));
    values_[-1].add_(pendingTokens_);
    pendingTokens_ = 0;
}

void FeatureSums::addNorm(const at::Tensor& input, double eps) {
    const at::Tensor x = rowsOf(input), squares = x.square();
    const at::Tensor energy = squares / (squares.mean(-1, /*keepdim=*/true) + eps);
    totals().add_(energy.sum(0, /*keepdim=*/false, at::kDouble));
    values_[-1].add_(x.size(0));
}

void FeatureSums::finish() {
    multiplyPending();
}

std::int64_t FeatureSums::tokens() const {
    return static_cast<std::int64_t>(values_[-1].item<double>());
}

at::Tensor FeatureSums::products() const {
    return values_.narrow(0, 0, products_).view({inputs_, inputs_ + outputs_});
}

at::Tensor FeatureSums::totals() const {
    return values_.narrow(0, products_, inputs_ + outputs_);
}

void PartTree::insert(Node node) {
    nodes_.push_back(std::move(node));
    while (nodes_.size() > 1 && isSibling(nodes_[nodes_.size() - 2], nodes_.back())) {
        Node& left = nodes_[nodes_.size() - 2];
        if (left.values.defined()) left.values.add_(nodes_.back().values);
        left.count *= 2;
        nodes_.pop_back();
    }
}

at::Tensor PartTree::total() {
    at::Tensor total = nodes_.front().values;
    for (std::size_t i = 1; i < nodes_.size(); ++i) total.add_(nodes_[i].values);
    nodes_.clear();
    return total;
}

std::vector<std::pair<int, int>> PartTree::nodesOf(int first, int end) {
    PartTree tree;
    for (int part = first; part < end; ++part) tree.insert({part, 1, {}});
    std::vector<std::pair<int, int>> nodes;
    for (const Node& node : tree.nodes()) nodes.emplace_back(node.first, node.count);
    return nodes;
}

}  // namespace aimerge
