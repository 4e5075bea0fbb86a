#include "aimerge/merge/linear.h"

#include "aimerge/core/error.h"
#include "merge/for_each_element.h"

#include <cmath>
#include <numeric>

namespace aimerge {
namespace {

enum LinearParameter { kWeight, kNormalize };

class PreparedLinear : public PreparedParameter {
public:
    explicit PreparedLinear(std::vector<double> shares) : shares_(std::move(shares)) {}

    void combine(std::int64_t /*first*/, const float* /*base*/, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        withInputCount(inputs.size(), [&](auto count) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(LinearCombine<kInputs>{PerInput<double, kInputs>::from(shares_.data())}, nullptr, inputs, out);
        });
    }

private:
    std::vector<double> shares_;
};

class Linear : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{
            .name = "linear",
            .description = "Weighted mean of all models",
            .paper = "Wortsman et al. 2022, Model soups, arXiv 2203.05482",
            .base = BaseUse::Ordinary,
            .minInputs = 1,
            .parameters = {{.name = "weight", .type = ParameterType::Number, .scope = ParameterScope::PerInput, .fallback = {}, .description = "factor of the model"},
                           {.name = "normalize", .type = ParameterType::Boolean, .scope = ParameterScope::Shared, .fallback = 1.0, .description = "divide by the sum of the weights"}}};
        return info;
    }

    void check(const ResolvedParameters& values, const std::string& tensor) const override {
        if (values.shared[kNormalize] == 0) return;
        double total = 0, magnitude = 0;
        for (const double weight : values.perInput[kWeight]) {
            total += weight;
            magnitude += std::abs(weight);
        }
        if (std::abs(total) <= 1e-12 * magnitude)  // zero, but for the rounding of decimal weights
            throw UsageError("{}: the weights of the {} models add up to 0, by which nothing can be divided; change a weight or set "
                             "normalize: false",
                             tensor, values.perInput[kWeight].size());
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        std::vector<double> shares = values.perInput[kWeight];
        if (values.shared[kNormalize] != 0) {
            const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
            for (double& share : shares) share /= total;
        }
        return std::make_unique<PreparedLinear>(std::move(shares));
    }
};

}  // namespace

const Method& linearMethod() {
    static const Linear method;
    return method;
}

}  // namespace aimerge
