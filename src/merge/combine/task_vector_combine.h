#pragma once
// The prepared parameter of everything that adds up trimmed task vectors: src/merge/combine/task_vectors.h with the
// coefficients of one parameter.

#include "merge/combine/task_vectors.h"
#include "merge/combine/walked_parameter.h"
#include "merge/methods/task_vector_parameters.h"
#include "merge/methods/weights.h"

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
    template <template <int> class Trim, typename MakeTrim, typename Tile>
    void walk(const MakeTrim& makeTrim, const Tile& tile) const {
        if (addition_ == Addition::Sum)
            walkSum<Trim>(makeTrim, tile);
        else
            walkConsensus<Trim>(makeTrim, tile);
    }

private:
    template <template <int> class Trim, typename MakeTrim, typename Tile>
    void walkSum(const MakeTrim& makeTrim, const Tile& tile) const {
        withCounts(tile.inputs.size(), [&](auto count, auto normalize) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(
                SumCombine<Trim, kInputs, decltype(normalize)::value>{makeTrim(count), weights<kInputs>(), divisor_,
                                                                      lambda_},
                tile);
        });
    }

    template <template <int> class Trim, typename MakeTrim, typename Tile>
    void walkConsensus(const MakeTrim& makeTrim, const Tile& tile) const {
        withCounts(tile.inputs.size(), [&](auto count, auto normalize) {
            constexpr int kInputs = decltype(count)::value;
            forEachElement<kInputs>(
                ConsensusCombine<Trim, kInputs, decltype(normalize)::value>{makeTrim(count), weights<kInputs>(), lambda_},
                tile);
        });
    }

    template <typename Use>
    void withCounts(std::size_t inputs, const Use& use) const {
        withInputCount(inputs,
                       [&](auto count) { withNormalize(normalize_, [&](auto normalize) { use(count, normalize); }); });
    }

    template <int kInputs>
    PerInput<float, kInputs> weights() const {
        return PerInput<float, kInputs>::from(weights_.data());
    }

    Addition addition_;
    std::vector<float> weights_;
    bool normalize_;
    float divisor_, lambda_;
};

}  // namespace aimerge
