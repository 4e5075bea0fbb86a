#include "merge/methods/passthrough.h"

#include "merge/methods/one_input.h"

namespace aimerge {
namespace {

enum PassthroughParameter { kScale };

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

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedOneInput<PassthroughCombine>>(
            PassthroughCombine{static_cast<float>(values.perInput[kScale].front())});
    }
};

}  // namespace

const Method& passthroughMethod() {
    static const Passthrough method;
    return method;
}

}  // namespace aimerge
