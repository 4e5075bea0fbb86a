#pragma once
// X S = N of one linear layer (merge/methods/closed_form.h): builds S = sum_i C_i and N = sum_{i>1} (W_i - W_1) C_i, expert
// by expert, and solves.

#include "aimerge/merge/parameter_reader.h"

#include <cstdint>
#include <vector>

namespace aimerge {

/// Where C_i comes from.
enum class ExpertMatrix { InputGram, TaskVector, NormalisedTaskVector };

struct LayerSystem {
    ExpertMatrix matrix;
    std::vector<double> weights, shares;  // per expert
    double ridge;
    double alpha;  // factor of off-diagonal elements

    /// @return X, row-major; empty when S is zero: no expert that counts has changed, or seen any input
    /// @pre the parameter has two axes; with ExpertMatrix::InputGram, gramOf() every input
    /// @throws InputError naming the tensor and the input channel when S is singular
    std::vector<float> solve(ParameterReader& parameter) const;

    /// Working memory of solve(), X included.
    static std::uint64_t workingBytes(std::int64_t rows, std::int64_t columns);
};

}  // namespace aimerge
