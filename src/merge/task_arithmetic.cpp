#include "aimerge/merge/task_arithmetic.h"

#include "merge/for_each_element.h"
#include "merge/task_vector_parameters.h"
#include "merge/weights.h"

#include <cmath>

namespace aimerge {
namespace {

/// sum w_i as float32 arithmetic has it; 1 when it is too small to divide by.
float divisorOf(const std::vector<float>& weights) {
    float sum = 0;
    for (const float weight : weights) sum += weight;
    return std::abs(sum) < 1e-8f ? 1.0f : sum;
}

class PreparedTaskArithmetic : public PreparedParameter {
public:
    explicit PreparedTaskArithmetic(const ResolvedParameters& values)
        : weights_(floatsOf(values.perInput[kWeight])),
          normalize_(values.shared[kNormalize] != 0),
          divisor_(divisorOf(weights_)),
          lambda_(static_cast<float>(values.shared[kLambda])) {}

    void combine(std::int64_t /*first*/, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const override {
        withInputCount(inputs.size(), [&](auto count) {
            withNormalize(normalize_, [&](auto normalize) {
                constexpr int kInputs = decltype(count)::value;
                const TaskArithmeticCombine<kInputs, decltype(normalize)::value> kernel{
                    PerInput<float, kInputs>::from(weights_.data()), divisor_, lambda_};
                forEachElement<kInputs>(kernel, base, inputs, out);
            });
        });
    }

private:
    std::vector<float> weights_;
    bool normalize_;
    float divisor_, lambda_;
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
