#include "merge/methods/task_arithmetic.h"

#include "merge/combine/whole_change.h"

namespace aimerge {
namespace {

/// As mergekit's: it trims nothing.
std::vector<ParameterSpec> untrimmedParameters() {
    std::vector<ParameterSpec> specs = taskVectorParameters({.normalize = false, .rescale = false});
    for (const std::size_t unused : {kDensity, kRescale}) {
        specs[unused].description = "accepted for mergekit's sake; no effect";
        specs[unused].hasNoEffect = true;
    }
    return specs;
}

class TaskArithmetic : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "task_arithmetic",
                                     .description = "Adds the experts' weighted changes to the base",
                                     .paper = "Ilharco et al. 2023, Editing models with task arithmetic, arXiv 2212.04089",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .parameters = untrimmedParameters()};
        return info;
    }

    bool passesOver(const ResolvedParameters&) const override { return false; }

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return wholeChange(Addition::Sum, values);
    }
};

}  // namespace

const Method& taskArithmeticMethod() {
    static const TaskArithmetic method;
    return method;
}

}  // namespace aimerge
