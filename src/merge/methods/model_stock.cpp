#include "merge/methods/model_stock.h"

#include "merge/algebra/inner_products.h"
#include "merge/combine/walked_parameter.h"
#include "merge/sources/row_runs.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

enum ModelStockParameter { kFilterWise };

/// t, the way from the base to the experts' mean.
double interpolation(const InnerProducts& products, std::size_t position) {
    const std::size_t k = products.vectors();
    double cosines = 0;
    for (std::size_t i = 0; i < k; ++i) {
        for (std::size_t j = i + 1; j < k; ++j) {
            const double norms = std::sqrt(products(position, i, i) * products(position, j, j));
            cosines += std::clamp(products(position, i, j) / std::max(norms, 1e-6), -1.0, 1.0);
        }
    }
    const double count = static_cast<double>(k), mean = cosines / (count * (count - 1) / 2);
    const double denominator = 1 + (count - 1) * mean;
    return std::abs(denominator) < 1e-6 ? 0 : count * mean / denominator;
}

class PreparedModelStock : public PreparedParameter {
public:
    /// @param t one value for the tensor, or one per row
    PreparedModelStock(std::vector<double> t, std::int64_t columns) : t_(std::move(t)), columns_(columns) {}

    void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        const HostTile tile{base, inputs, out};
        if (t_.size() == 1) return walk(t_.front(), tile);
        forEachRowRun(
            first, out.size(), columns_, [&](std::int64_t row, std::int64_t, std::size_t offset, std::size_t count) {
                withPart(tile, offset, count, [&](const HostTile& part) { walk(t_[static_cast<std::size_t>(row)], part); });
            });
    }
#if AIMERGE_HAS_CUDA
    /// A kernel for each row would be too small.
    bool runsOnDevice() const override {
        return t_.size() == 1;
    }
    void combineOnDevice(std::int64_t, const DeviceTile& tile) const override {
        walk(t_.front(), tile);
    }
#endif

private:
    template <typename Tile>
    static void walk(double t, const Tile& tile) {
        withInputCount(tile.inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            const ModelStockCombine<kInputs> kernel{static_cast<float>(t), static_cast<float>(1 - t),
                                                    static_cast<float>(tile.inputs.size())};
            forEachElement<kInputs>(kernel, tile);
        });
    }

    std::vector<double> t_;
    std::int64_t columns_;
};

class ModelStock : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "model_stock",
                                     .description = "Between the base and the experts' mean, by the angle of their changes",
                                     .paper = "Jang et al. 2024, Model Stock, arXiv 2403.19522",
                                     .base = BaseUse::Required,
                                     .minInputs = 2,
                                     .parameters = {{.name = "filter_wise",
                                                     .type = ParameterType::Boolean,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 0.0,
                                                     .description = "an angle for each row, not for the tensor"}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const Along along = values.shared[kFilterWise] != 0 ? Along::Rows : Along::Tensor;
        const InnerProducts products = innerProducts(parameter, Vectors::Changes, along);
        std::vector<double> t(products.positions());
        for (std::size_t position = 0; position < t.size(); ++position) t[position] = interpolation(products, position);
        return std::make_unique<PreparedModelStock>(std::move(t), MatrixShape::of(parameter.shape(), along).columns);
    }
};

}  // namespace

const Method& modelStockMethod() {
    static const ModelStock method;
    return method;
}

}  // namespace aimerge
