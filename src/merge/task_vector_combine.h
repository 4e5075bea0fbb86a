#pragma once
// The prepared parameter of everything that adds up trimmed task vectors: include/aimerge/merge/task_vectors.h with the
// coefficients of one parameter.

#include "aimerge/merge/method.h"
#include "aimerge/merge/task_vectors.h"
#include "merge/for_each_element.h"
#include "merge/task_vector_parameters.h"
#include "merge/weights.h"

#include <span>
#include <vector>

namespace aimerge {

enum class Addition { Sum, Consensus };

class TaskVectorAddition {
public:
    TaskVectorAddition(Addition addition, const ResolvedParameters& values)
        : addition_(addition),
          weights_(floatsOf(values.perInput[kWeight])),
          normalize_(values.shared[kNormalize] != 0),
          divisor_(divisorOf(weights_)),
          lambda_(static_cast<float>(values.shared[kLambda])) {}

    /// @param makeTrim called with std::integral_constant<int, kInputs>, gives a Trim<kInputs>
    template <template <int> class Trim, typename MakeTrim>
    void combine(const MakeTrim& makeTrim, const float* base, std::span<const float* const> inputs,
                 std::span<float> out) const {
        withInputCount(inputs.size(), [&](auto count) {
            withNormalize(normalize_, [&](auto normalize) {
                constexpr int kInputs = decltype(count)::value;
                constexpr Normalize kNormalized = decltype(normalize)::value;
                const auto weight = PerInput<float, kInputs>::from(weights_.data());
                if (addition_ == Addition::Sum)
                    forEachElement<kInputs>(
                        SumCombine<Trim, kInputs, kNormalized>{makeTrim(count), weight, divisor_, lambda_}, base, inputs,
                        out);
                else
                    forEachElement<kInputs>(ConsensusCombine<Trim, kInputs, kNormalized>{makeTrim(count), weight, lambda_},
                                            base, inputs, out);
            });
        });
    }

private:
    Addition addition_;
    std::vector<float> weights_;
    bool normalize_;
    float divisor_, lambda_;
};

}  // namespace aimerge
