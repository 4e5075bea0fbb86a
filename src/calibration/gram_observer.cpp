#include "calibration/gram_observer.h"

#include "calibration/float64_sum.h"
#include "calibration/statistic_file.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

namespace aimerge {
namespace {

constexpr std::int64_t kElementsPerThread = 65536;

/// The mean in float32. Both halves are taken from the lower one: a product is symmetric only up to rounding.
at::Tensor symmetricMean(const at::Tensor& sum, std::int64_t tokens) {
    const std::int64_t size = sum.size(0);
    at::Tensor mean = at::empty({size, size}, at::kFloat);
    const double* from = sum.const_data_ptr<double>();
    float* to = mean.mutable_data_ptr<float>();
    const std::int64_t grain = std::max<std::int64_t>(1, kElementsPerThread / size);
    at::parallel_for(0, size, grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row)
            for (std::int64_t column = 0; column < size; ++column)
                to[row * size + column] = static_cast<float>(from[std::max(row, column) * size + std::min(row, column)] /
                                                             static_cast<double>(tokens));
    });
    return mean;
}

}  // namespace

void GramObserver::observe(const ModuleInput& where, const at::Tensor& input) {
    if (place_.decoder.isNormAt(where)) return;
    const std::int64_t channels = input.size(-1);
    const at::Tensor rows = input.reshape({-1, channels}).to(at::kFloat);
    const at::Tensor product = at::mm(rows.t(), rows);
    // |g_ij| <= (g_ii + g_jj) / 2, so the diagonal shows whatever is not finite.
    if (!product.diagonal().isfinite().all().item<bool>()) throwBadActivation(place_, where, input);

    Sum& sum = (where == kHeadInput ? ofHead_ : ofLayer_)[where];
    if (!sum.matrix.defined())
        sum.matrix = at::zeros({channels, channels}, at::TensorOptions(at::kDouble).device(input.device()));
    addTo(sum.matrix, product);
    sum.tokens += rows.size(0);
}

void GramObserver::finishLayer(std::int64_t layer) {
    write(fmt::format("layer-{:05}.safetensors", layer), ofLayer_);
}

void GramObserver::finish() {
    if (!ofHead_.empty()) write("head.safetensors", ofHead_);
}

void GramObserver::write(const std::string& fileName, std::map<ModuleInput, Sum>& sums) const {
    std::map<std::string, at::Tensor> tensors;
    for (auto& [where, sum] : sums) {
        tensors.emplace(place_.decoder.modulesAt(where).front() + ".gram", symmetricMean(sum.matrix.cpu(), sum.tokens));
        sum.matrix.reset();
    }
    sums.clear();
    writeStatisticFile(folder_ / fileName, tensors);
}

}  // namespace aimerge
