#include "merge/methods/nuslerp.h"

#include "merge/combine/weighted_changes.h"
#include "merge/methods/arc.h"

#include <algorithm>

namespace aimerge {
namespace {

enum NuslerpParameter { kWeight, kFlatten, kRowWise };

std::vector<double> coefficientsFrom(double t, const InnerProducts& products, std::size_t position) {
    const auto norm = [&](std::size_t i) { return std::max(std::sqrt(products(position, i, i)), 1e-7); };
    const double cosine = std::clamp(products(position, 0, 1) / (norm(0) * norm(1)), -1.0, 1.0);
    // Colinear where float32 cannot tell the cosine from 1, as in the reference: opposite vectors have no arc of their own.
    const bool isColinear = std::abs(static_cast<float>(cosine)) == 1;
    const auto [first, second] = isColinear ? onTheChord(t) : onTheArc(t, cosine);
    return {first, second};
}

class Nuslerp : public Method {
public:
    const MethodInfo& info() const override {
        using enum ParameterType;
        using enum ParameterScope;
        static const MethodInfo info{
            .name = "nuslerp",
            .description = "Point on the arc between two models or, with a base, between their changes",
            .paper = "Shoemake 1985, Animating rotation with quaternion curves; mergekit's NuSLERP",
            .base = BaseUse::Optional,
            .minInputs = 2,
            .maxInputs = 2,
            .parameters = {
                {.name = "weight", .type = Number, .scope = PerNonBase, .fallback = {}, .description = "pull of the model"},
                {.name = "nuslerp_flatten",
                 .type = Boolean,
                 .scope = Shared,
                 .fallback = 1.0,
                 .description = "a tensor is one vector"},
                {.name = "nuslerp_row_wise",
                 .type = Boolean,
                 .scope = Shared,
                 .fallback = 0.0,
                 .description = "without nuslerp_flatten: vectors are columns of the stored matrix, not rows"}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const std::vector<double>& weights = values.perInput[kWeight];
        const double sum = weights[0] + weights[1], t = std::abs(sum) < 1e-6 ? 0.5 : weights[1] / sum;
        const bool isVector = parameter.shape().size() < 2;  // whose only axis is both
        const Along along = isVector || values.shared[kFlatten] != 0 ? Along::Tensor
                            : values.shared[kRowWise] != 0           ? Along::Columns
                                                                     : Along::Rows;
        const bool hasBase = parameter.hasBase();
        const InnerProducts products = innerProducts(parameter, hasBase ? Vectors::Changes : Vectors::Inputs, along);
        WeightedChanges changes(hasBase ? Reference::Base : Reference::FirstInput, along,
                                MatrixShape::of(parameter.shape(), along), 2);
        for (std::size_t position = 0; position < products.positions(); ++position) {
            std::vector<double> coefficients = coefficientsFrom(t, products, position);
            changes.set(position,
                        hasBase ? Coefficients{std::move(coefficients), 0} : Coefficients::ofSum(std::move(coefficients)));
        }
        return std::move(changes).prepared();
    }
};

}  // namespace

const Method& nuslerpMethod() {
    static const Nuslerp method;
    return method;
}

}  // namespace aimerge
