#include "calibration/feature_sums.h"

#include "aimerge/calibration/featcal_cost.h"
#include "aimerge/model/products.h"
#include "calibration/float64_sum.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace aimerge {
namespace {

bool isSibling(const PartTree::Node& left, const PartTree::Node& right) {
    return left.count == right.count && left.first % (2 * left.count) == 0 && left.first + left.count == right.first;
}

}  // namespace

FeatureSums::FeatureSums(std::int64_t inputs, std::int64_t outputs, std::int64_t products, std::int64_t totals,
                         at::Device device)
    : inputs_(inputs), outputs_(outputs), products_(products), totals_(totals), device_(device) {}

FeatureSums FeatureSums::ofLinearLayers(std::int64_t inputs, std::int64_t outputs, bool withTotals, at::Device device) {
    return {inputs, outputs, inputs * (inputs + outputs), withTotals ? inputs + outputs : 0, device};
}

FeatureSums FeatureSums::ofNorm(std::int64_t channels, at::Device device) {
    return {channels, 0, 0, channels, device};
}

void FeatureSums::addLinear(const at::Tensor& input, std::span<const at::Tensor> outputs) {
    const std::int64_t tokens = input.numel() / inputs_;
    if (rows_.defined() && waiting_ + tokens > rows_.size(0)) multiplyRows();
    if (!rows_.defined() || tokens > rows_.size(0))
        rows_ =
            at::empty({std::max(kRowsOfProduct, tokens), inputs_ + outputs_}, at::TensorOptions(at::kFloat).device(device_));
    const at::Tensor rows = rows_.narrow(0, waiting_, tokens);
    std::int64_t column = 0;
    const auto enter = [&](const at::Tensor& x) {
        rows.narrow(1, column, x.size(-1)).copy_(x.reshape({tokens, x.size(-1)}));
        column += x.size(-1);
    };
    enter(input);
    for (const at::Tensor& output : outputs) enter(output);
    waiting_ += tokens;
    all_ += tokens;
}

void FeatureSums::multiplyRows() {
    if (waiting_ == 0) return;
    const at::Tensor rows = rows_.narrow(0, 0, waiting_);
    const at::Tensor product = transposedProduct(rows, rows.narrow(1, 0, inputs_));
    const bool isFirst = !values_.defined();
    if (isFirst) values_ = at::empty({size()}, at::TensorOptions(at::kDouble).device(device_));
    at::Tensor products = this->products();
    isFirst ? void(products.copy_(product)) : addTo(products, product);
    if (hasTotals()) {
        const at::Tensor totals = rows.sum(0, /*keepdim=*/false, at::kDouble);
        isFirst ? this->totals().copy_(totals) : this->totals().add_(totals);
    }
    waiting_ = 0;
}

void FeatureSums::addNorm(const at::Tensor& input, double eps) {
    const at::Tensor x = input.reshape({-1, inputs_}).to(at::kFloat), squares = x.square();
    const at::Tensor energy = squares / (squares.mean(-1, /*keepdim=*/true) + eps);
    if (!values_.defined()) values_ = at::zeros({size()}, at::TensorOptions(at::kDouble).device(device_));
    totals().add_(energy.sum(0, /*keepdim=*/false, at::kDouble));
    all_ += x.size(0);
}

void FeatureSums::finish() {
    multiplyRows();
    rows_ = at::Tensor();
    values_[-1].fill_(all_);
}

std::int64_t FeatureSums::tokens() const {
    return static_cast<std::int64_t>(values_[-1].item<double>());
}

at::Tensor FeatureSums::products() const {
    return values_.narrow(0, 0, products_).view({inputs_ + outputs_, inputs_});
}

at::Tensor FeatureSums::totals() const {
    return values_.narrow(0, products_, totals_);
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
