#pragma once
// The closed forms of aimerge/calibration/featcal.h, teacher after teacher. Everything is float64.

#include "calibration/feature_sums.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <span>

namespace aimerge {

/// The linear layers that share an input.
class FeatureSystem {
public:
    FeatureSystem(std::int64_t inputs, std::int64_t outputs, at::Device device);

    /// @param biases of the teacher's layers, [outputs]; zero where it has none, undefined where no model has any
    /// @param weight at least 0 @pre all sums are finite
    void add(const FeatureSums& sums, const at::Tensor& biases, double weight);

    /// The weights, [outputs, inputs]. Once. @param towards rho W_merged + (1 - rho) W_base of each
    /// layer, [its outputs, inputs]
    /// @return nothing when the system cannot be solved: lambda is too small beside the inputs
    std::optional<at::Tensor> solveWeights(double lambda, std::span<const at::Tensor> towards);
    /// The biases for these weights, [outputs].
    at::Tensor solveBiases(double lambda, const at::Tensor& weights, const at::Tensor& towards) const;

private:
    at::Tensor covariance_, target_;       // sum_i w_i C_i / |C_i| and sum_i w_i X_i / |C_i|
    at::Tensor meanInputs_, meanOutputs_;  // sums of means, times c_i
    double scales_ = 0;                    // sum_i c_i
};

/// A norm.
class NormSystem {
public:
    explicit NormSystem(std::int64_t channels);
    /// @param scale the teacher's, [channels]
    void add(const FeatureSums& sums, const at::Tensor& scale, double weight);
    at::Tensor solve(double lambda, const at::Tensor& towards) const;

private:
    at::Tensor energy_, target_;
};

}  // namespace aimerge
