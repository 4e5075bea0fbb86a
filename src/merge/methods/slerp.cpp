#include "merge/methods/slerp.h"

#include "merge/algebra/inner_products.h"
#include "merge/methods/arc.h"
#include "merge/methods/one_input.h"

#include <algorithm>

namespace aimerge {
namespace {

enum SlerpParameter { kT };

SlerpCombine onTheChordAt(double t) {
    const auto [ofBase, ofExpert] = onTheChord(t);
    return {static_cast<float>(ofBase), static_cast<float>(ofExpert), true};
}

SlerpCombine between(double t, const InnerProducts& products) {
    // Vectors: 0 the expert's change, 1 the base. <a, c> = <a, d> + <a, a>, which loses nothing when d is small.
    const double baseSquare = products(0, 1, 1), dot = products(0, 0, 1) + baseSquare;
    const double expertSquare = products(0, 0, 0) + 2 * products(0, 0, 1) + baseSquare;
    const auto normOf = [](double square) {
        const double norm = std::sqrt(std::max(square, 0.0));
        return norm > 1e-8 ? norm : 1.0;
    };
    const double cosine = std::clamp(dot / (normOf(baseSquare) * normOf(expertSquare)), -1.0, 1.0);
    if (std::abs(cosine) > 0.9995) return onTheChordAt(t);
    const auto [ofBase, ofExpert] = onTheArc(t, cosine);
    return {static_cast<float>(ofBase), static_cast<float>(ofExpert), false};
}

class Slerp : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{
            .name = "slerp",
            .description = "Point on the arc from the base to one other model",
            .paper = "Shoemake 1985, Animating rotation with quaternion curves",
            .base = BaseUse::Required,
            .minInputs = 1,
            .maxInputs = 1,
            .parameters = {{.name = "t",
                            .type = ParameterType::Number,
                            .scope = ParameterScope::Shared,
                            .fallback = {},
                            .description = "place on the arc: 0 the base, 1 the other model, beyond them "
                                           "further along"}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter, const ResolvedParameters& values) const override {
        const double t = values.shared[kT];
        const bool isAnEnd = t == 0 || t == 1;  // the parameter need not be looked at
        return std::make_unique<PreparedOneInput<SlerpCombine>>(
            isAnEnd ? onTheChordAt(t) : between(t, innerProducts(parameter, Vectors::ChangesAndBase, Along::Tensor)));
    }
};

}  // namespace

const Method& slerpMethod() {
    static const Slerp method;
    return method;
}

}  // namespace aimerge
