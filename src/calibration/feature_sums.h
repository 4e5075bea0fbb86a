#pragma once
// Sums over a teacher's tokens at a point of a layer, for the closed forms of aimerge/calibration/featcal.h.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace aimerge {

/// What is summed up of linear layers that share an input: x x^T and y x^T, x and y. Of a norm: z^2. One float64 tensor,
/// which can be added and sent as a whole.
class FeatureSums {
public:
    /// For linear layers with so many inputs, and outputs together.
    /// @param withTotals whether x and y are wanted: for biases
    static FeatureSums ofLinearLayers(std::int64_t inputs, std::int64_t outputs, bool withTotals, at::Device device);
    static FeatureSums ofNorm(std::int64_t channels, at::Device device);
    /// All elements, from wherever they come.
    void take(const at::Tensor& values) { values_ = values; }

    /// @param input [.., inputs] @param outputs of each layer [.., its outputs]
    void addLinear(const at::Tensor& input, std::span<const at::Tensor> outputs);
    /// @param input [.., channels], before the norm
    void addNorm(const at::Tensor& input, double eps);
    /// After the last tokens.
    void finish();

    std::int64_t inputs() const { return inputs_; }
    std::int64_t outputs() const { return outputs_; }
    bool hasTotals() const { return totals_ > 0; }
    const at::Tensor& values() const { return values_; }  // float64, one axis
    std::int64_t size() const { return products_ + totals_ + 1; }
    std::int64_t tokens() const;  // of a norm: rows
    at::Tensor products() const;  // [inputs + outputs, inputs]; @pre of linear layers
    at::Tensor totals() const;    // [inputs + outputs]; of a norm: of z^2

private:
    FeatureSums(std::int64_t inputs, std::int64_t outputs, std::int64_t products, std::int64_t totals, at::Device device);
    void multiplyRows();

    std::int64_t inputs_, outputs_, products_, totals_;
    at::Device device_;
    at::Tensor values_;                   // undefined before the first tokens
    at::Tensor rows_;                     // float32 [room, inputs + outputs]: tokens that wait for their product
    std::int64_t waiting_ = 0, all_ = 0;  // tokens
};

/// Sums of consecutive parts, added up pair by pair as a tree over all parts says: which parts a rank has leaves no trace.
class PartTree {
public:
    /// The sums of parts [first, first + count).
    struct Node {
        int first = 0, count = 1;
        at::Tensor values;
    };

    /// Parts, or whole nodes of another tree, in ascending order.
    void insert(Node node);
    const std::vector<Node>& nodes() const { return nodes_; }
    /// The sum of all that was inserted. Once.
    at::Tensor total();

    /// What nodes() is after the parts [first, end): first and count.
    static std::vector<std::pair<int, int>> nodesOf(int first, int end);

private:
    std::vector<Node> nodes_;
};

}  // namespace aimerge
