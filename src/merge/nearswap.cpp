#include "aimerge/merge/nearswap.h"

#include "merge/for_each_element.h"

namespace aimerge {
namespace {

enum NearswapParameter { kT };

class PreparedNearswap : public PreparedParameter {
public:
    explicit PreparedNearswap(double t) : kernel_{static_cast<float>(t)} {}

    void combine(std::int64_t /*first*/, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        forEachElement<1>(kernel_, base, inputs, out);
    }

private:
    NearswapCombine kernel_;
};

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
                                                     .description = "distance up to which an element is taken over",
                                                     .minimum = 0}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedNearswap>(values.shared[kT]);
    }
};

}  // namespace

const Method& nearswapMethod() {
    static const Nearswap method;
    return method;
}

}  // namespace aimerge
