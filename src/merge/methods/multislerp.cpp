#include "merge/methods/multislerp.h"

#include "aimerge/core/error.h"
#include "merge/combine/weighted_changes.h"
#include "merge/methods/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace aimerge {
namespace {

enum MultislerpParameter { kWeight, kNormalizeWeights, kEps };

/// A mean of unit vectors shorter than this is what the rounding of float32 inputs leaves of directions that cancel.
constexpr double kNoDirection = 0x1p-23;

/// @throws InputError when more than two directions cancel each other
std::vector<double> coefficientsFrom(std::vector<double> weights, double eps, const InnerProducts& products,
                                     const std::string& tensor) {
    const std::size_t n = weights.size();
    std::vector<double> lengths(n);
    for (std::size_t i = 0; i < n; ++i) lengths[i] = std::sqrt(products(0, i, i)) + eps;
    double square = 0, radius = 0, longest = 0, total = 0;
    for (std::size_t i = 0; i < n; ++i) {
        radius += weights[i] * (lengths[i] - eps);
        longest = std::max(longest, products(0, i, i));
        total += std::abs(weights[i]);
        for (std::size_t j = 0; j < n; ++j)
            square += weights[i] * weights[j] * products(0, i, j) / (lengths[i] * lengths[j]);
    }
    const double norm = std::sqrt(std::max(square, 0.0));
    if (norm < std::max(eps, kNoDirection * total)) {
        if (n == 2 || longest == 0) return weights;
        throw InputError(
            "{}: the directions of the {} models cancel each other, so multislerp has none to give; change the "
            "weights",
            tensor, n);
    }
    for (std::size_t i = 0; i < n; ++i) weights[i] *= std::cos(eps) * radius / (lengths[i] * norm);
    return weights;
}

class Multislerp : public Method {
public:
    const MethodInfo& info() const override {
        using enum ParameterType;
        using enum ParameterScope;
        static const MethodInfo info{
            .name = "multislerp",
            .description = "Mean direction and mean length of any number of models or, with a base, of their changes",
            .paper = "Goddard et al. 2024, Arcee's MergeKit, arXiv 2403.13257",
            .base = BaseUse::Optional,
            .minInputs = 1,
            .parameters = {
                {.name = "weight", .type = Number, .scope = PerNonBase, .fallback = {}, .description = "pull of the model"},
                {.name = "normalize_weights",
                 .type = Boolean,
                 .scope = Shared,
                 .fallback = 1.0,
                 .description = "divide the weights by their sum"},
                {.name = "eps",
                 .type = Number,
                 .scope = Shared,
                 .fallback = 1e-8,
                 .description = "length below which a direction is none",
                 .minimum = 0,
                 .minimumExcluded = true}}};
        return info;
    }

    std::optional<ParameterProblem> check(const ResolvedParameters& values) const override {
        const std::vector<double>& weights = values.perInput[kWeight];
        if (values.shared[kNormalizeWeights] == 0 || weights.size() == 1 || !addUpToZero(weights)) return std::nullopt;
        return ParameterProblem{kWeight, 0,
                                fmt::format("the weights of the {} models add up to 0, by which nothing can be divided; "
                                            "change a weight or set normalize_weights: false",
                                            weights.size())};
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::size_t inputs = parameter.inputs();
        if (inputs == 1) {  // returned as it is
            WeightedChanges same(Reference::FirstInput, Along::Tensor, {}, 1);
            same.set(0, {{1}, 0});
            return std::move(same).prepared();
        }
        const bool hasBase = parameter.hasBase();
        std::vector<double> weights = values.perInput[kWeight];
        if (values.shared[kNormalizeWeights] != 0) {
            const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
            for (double& weight : weights) weight /= sum;
        }
        const Vectors kind = hasBase ? Vectors::Changes : Vectors::Inputs;
        std::vector<double> coefficients = coefficientsFrom(std::move(weights), values.shared[kEps],
                                                            innerProducts(parameter, kind, Along::Tensor), parameter.name());
        WeightedChanges changes(hasBase ? Reference::Base : Reference::FirstInput, Along::Tensor, {}, inputs);
        changes.set(0, hasBase ? Coefficients{std::move(coefficients), 0} : Coefficients::ofSum(std::move(coefficients)));
        return std::move(changes).prepared();
    }
};

}  // namespace

const Method& multislerpMethod() {
    static const Multislerp method;
    return method;
}

}  // namespace aimerge
