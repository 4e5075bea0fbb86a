#include "aimerge/merge/passthrough.h"

#include "merge/for_each_element.h"

namespace aimerge {
namespace {

enum PassthroughParameter { kScale };

class PreparedPassthrough : public PreparedParameter {
public:
    explicit PreparedPassthrough(double scale) : kernel_{static_cast<float>(scale)} {}

    void combine(std::int64_t /*first*/, const float* /*base*/, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        forEachElement<1>(kernel_, nullptr, inputs, out);
    }

private:
    PassthroughCombine kernel_;
};

class Passthrough : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "passthrough",
                                     .description = "Layers of one model as they are; slices stack those of several",
                                     .paper = "Goddard et al. 2024, Arcee's MergeKit, arXiv 2403.13257",
                                     .base = BaseUse::Ordinary,
                                     .minInputs = 1,
                                     .maxInputs = 1,
                                     .parameters = {{.name = "scale",
                                                     .type = ParameterType::Number,
                                                     .scope = ParameterScope::PerInput,
                                                     .fallback = 1.0,
                                                     .description = "factor of the values"}}};
        return info;
    }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedPassthrough>(values.perInput[kScale].front());
    }
};

}  // namespace

const Method& passthroughMethod() {
    static const Passthrough method;
    return method;
}

}  // namespace aimerge
