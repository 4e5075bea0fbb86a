#include "merge/methods/task_arithmetic.h"

#include "merge/combine/whole_change.h"

namespace aimerge {
namespace {

class TaskArithmetic : public Method {
public:
    const MethodInfo& info() const override {
        static const MethodInfo info{.name = "task_arithmetic",
                                     .description = "Adds the experts' weighted changes to the base",
                                     .paper = "Ilharco et al. 2023, Editing models with task arithmetic, arXiv 2212.04089",
                                     .base = BaseUse::Required,
                                     .minInputs = 1,
                                     .parameters = taskVectorParameters({.normalize = false, .rescale = false})};
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
