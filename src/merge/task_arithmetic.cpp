#include "aimerge/merge/task_arithmetic.h"

#include "merge/task_vector_combine.h"

namespace aimerge {
namespace {

class PreparedTaskArithmetic : public WalkedParameter<PreparedTaskArithmetic> {
public:
    explicit PreparedTaskArithmetic(const ResolvedParameters& values) : addition_(Addition::Sum, values) {}

    template <typename Tile>
    void walk(std::int64_t /*first*/, const Tile& tile) const {
        addition_.walkSum<KeepAll>([](auto count) { return KeepAll<decltype(count)::value>{}; }, tile);
    }

private:
    TaskVectorAddition addition_;
};

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

    std::unique_ptr<PreparedParameter> prepare(ParameterReader&, const ResolvedParameters& values) const override {
        return std::make_unique<PreparedTaskArithmetic>(values);
    }
};

}  // namespace

const Method& taskArithmeticMethod() {
    static const TaskArithmetic method;
    return method;
}

}  // namespace aimerge
