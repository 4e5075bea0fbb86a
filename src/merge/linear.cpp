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
    explicit PreparedLinear(const ResolvedParameters& values)
        : weights_(values.perInput[kWeight].begin(), values.perInput[kWeight].end()),
          normalize_(values.shared[kNormalize] != 0),
          divisor_(std::accumulate(weights_.begin(), weights_.end(), 0.0f)) {}

    void combine(std::int64_t /*first*/, const float* /*base*/, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        withInputCount(inputs.size(), [&](auto count) {
            withNormalize(normalize_, [&](auto normalize) {
                constexpr int kInputs = decltype(count)::value;
                const LinearCombine<kInputs, decltype(normalize)::value> kernel{
                    PerInput<float, kInputs>::from(weights_.data()), divisor_};
                forEachElement<kInputs>(kernel, nullptr, inputs, out);
            });
        });
    }

private:
    std::vector<float> weights_;
    bool normalize_;
    float divisor_;
};

class Linear : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "linear",
                                     .description = "Weighted mean of all models",
                                     .paper = "Wortsman et al. 2022, Model soups, arXiv 2203.05482",
                                     .base = BaseUse::Ordinary,
                                     .minInputs = 1,
                                     .parameters = {{.name = "weight",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::PerInput,
                                                     .fallback = {},
                                                     .description = "factor of the model"},
                                                    {.name = "normalize",
                                                     .type = ParameterType::Boolean,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = 1.0,
                                                     .description = "divide by the sum of the weights"}}};
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
            throw UsageError(
                "{}: the weights of the {} models add up to 0, by which nothing can be divided; change a weight or set "
                "normalize: false",
                tensor, values.perInput[kWeight].size());
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedLinear>(values);
    }
};

}  // namespace

const Method& linearMethod() {
    static const Linear method;
    return method;
}

}  // namespace aimerge
