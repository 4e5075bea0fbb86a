#pragma once
// What an AIM merge relaxes, and what keeps its merged values and why, counted over the output's tensors: nothing stays
// unrelaxed without a word.

#include "aimerge/checkpoint/model_set.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/statistics/statistics.h"

#include <nlohmann/json.hpp>

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

struct Coverage {
    /// Tensors of a kind that AIM relaxes.
    struct Count {
        std::size_t relaxed = 0, all = 0;
    };
    Count matrices, norms;                    // a tensor of fused experts is one matrix
    std::map<std::string, std::size_t> kept;  // keep their merged values, by kind: "biases", "convolutions", "norms"
    std::size_t asMerged = 0;                 // have omega 1, by which every change is kept
    std::vector<std::string> unmeasured;      // tensors that would be relaxed, but have no statistic
    std::vector<std::string> uncovered;       // stacks all of whose matrices are unmeasured, with their names' beginning

    std::size_t experts = 0, expertsWithFewTokens = 0, expertsWithoutTokens = 0;  // of all layers together
    std::int64_t fewTokens = 0;                                                   // below which they are few

    /// "relaxed 224 of 224 matrices and 65 of 65 norms; kept their merged value: embedding, 36 biases"
    std::string text() const;
    nlohmann::ordered_json json() const;

    /// A warning with count and names where statistics are missing.
    void warn() const;
    /// @throws InputError when a stack is uncovered: what was asked for did not happen there at all
    void requireStacks() const;
};

/// @param statistics as Activity has them; of several, those of the first expert speak for all
Coverage coverageOf(const ModelSet& models, std::span<const MatchedTensor> tensors, const AimConfig& aim,
                    const StatisticsByModule& statistics);

/// What a calibration of aimerge's own measures on a model: every linear layer, norm and head, without values.
StatisticsByModule modulesToMeasure(const Checkpoint& base);

}  // namespace aimerge
