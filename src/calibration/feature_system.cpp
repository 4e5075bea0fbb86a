#include "calibration/feature_system.h"

#include <ATen/ATen.h>

namespace aimerge {
namespace {

/// Float32 products leave some 2^-24 of a channel where nothing should be.
constexpr double kLeastLeft = 0x1p-30;

}  // namespace

FeatureSystem::FeatureSystem(std::int64_t inputs, std::int64_t outputs, at::Device device) {
    const auto options = at::TensorOptions(at::kDouble).device(device);
    covariance_ = at::zeros({inputs, inputs}, options);
    target_ = at::zeros({outputs, inputs}, options);
    meanInputs_ = at::zeros({inputs}, options);
    meanOutputs_ = at::zeros({outputs}, options);
}

void FeatureSystem::add(const FeatureSums& sums, const at::Tensor& biases, double weight) {
    const std::int64_t inputs = sums.inputs(), outputs = sums.outputs();
    const at::Tensor products = sums.products(), covariance = products.narrow(0, 0, inputs);
    const double norm = at::linalg_vector_norm(covariance).item<double>();
    if (norm == 0 || weight == 0) return;  // nothing enters the layers
    covariance_.add_(covariance, weight / norm);
    target_.add_(products.narrow(0, inputs, outputs), weight / norm);
    if (!sums.hasTotals()) return;
    const at::Tensor totals = sums.totals();
    const at::Tensor totalInput = totals.narrow(0, 0, inputs), totalOutput = totals.narrow(0, inputs, outputs);
    target_.addr_(biases, totalInput, 1, -weight / norm);  // W_i x_t is the output without its bias
    const auto tokens = static_cast<double>(sums.tokens());
    const double scale = weight * tokens / norm;  // by the mean's norm
    meanInputs_.add_(totalInput, scale / tokens);
    meanOutputs_.add_(totalOutput, scale / tokens);
    scales_ += scale;
}

std::optional<at::Tensor> FeatureSystem::solveWeights(double lambda, std::span<const at::Tensor> towards) {
    std::int64_t row = 0;
    for (const at::Tensor& weight : towards) {
        target_.narrow(0, row, weight.size(0)).add_(weight, lambda);
        row += weight.size(0);
    }
    covariance_.diagonal().add_(lambda);
    const at::Tensor diagonal = covariance_.diagonal().clone();
    // Reads the lower half: a product is symmetric only up to rounding.
    const auto [factor, failed] = at::linalg_cholesky_ex(covariance_);
    if (failed.item<int>() != 0) return std::nullopt;
    const at::Tensor left = factor.diagonal().square() / diagonal;  // of each channel, by those before it
    if (!(left.min().item<double>() > kLeastLeft)) return std::nullopt;
    covariance_ = at::Tensor();
    return at::cholesky_solve(target_.t(), factor).t();
}

at::Tensor FeatureSystem::solveBiases(double lambda, const at::Tensor& weights, const at::Tensor& towards) const {
    return (meanOutputs_ - at::mv(weights, meanInputs_) + towards * lambda) / (scales_ + lambda);
}

NormSystem::NormSystem(std::int64_t channels)
    : energy_(at::zeros({channels}, at::kDouble)), target_(at::zeros({channels}, at::kDouble)) {}

void NormSystem::add(const FeatureSums& sums, const at::Tensor& scale, double weight) {
    const at::Tensor energy = sums.totals().cpu() * (weight / static_cast<double>(sums.tokens()));
    energy_.add_(energy);
    target_.add_(energy * scale);
}

at::Tensor NormSystem::solve(double lambda, const at::Tensor& towards) const {
    return (target_ + towards * lambda) / (energy_ + lambda);
}

}  // namespace aimerge
