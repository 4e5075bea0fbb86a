#include "merge/methods/nearswap.h"

#include "merge/methods/one_input.h"

namespace aimerge {
namespace {

enum NearswapParameter { kT };

class Nearswap : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "nearswap",
                                     .description = "Takes over the other model's elements that are close to the base's",
                                     .paper = "alchemonaut 2024, QuartetAnemoi-70B-t0.0001 (model card)",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .maxInputs = 1,
                                     .parameters = {{.name = "t",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::Shared,
                                                     .fallback = {},
                                                     .description = "distance up to which an element is replaced",
                                                     .minimum = 0}}};
        return info;
    }

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedOneInput<NearswapCombine>>(NearswapCombine{static_cast<float>(values.shared[kT])});
    }
};

}  // namespace

const Method& nearswapMethod() {
    static const Nearswap method;
    return method;
}

}  // namespace aimerge
