#pragma once
// How far HV gains would move with other items in the benchmarks: the bootstrap over items. Every draw takes as many items
// as a benchmark has, with replacement, the same for all models: differences are paired item by item. Benchmarks are drawn
// independently.

#include "aimerge/report/analysis.h"

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace aimerge {

/// A sum of HV gains: rows of merged models, and what each counts.
using GainSum = std::map<std::size_t, double>;

inline constexpr std::size_t kBootstrapDraws = 1000;

class GainErrors {
public:
    GainErrors(const ScoreTable& scores, const Analysis& analysis) : scores_(scores), analysis_(analysis) {}

    /// Standard error of a sum of HV gains. None where the outcomes of items are not recorded for a model in it or in its
    /// population. The same bits on every machine.
    /// @pre every row of the sum has a gain
    std::optional<double> of(const GainSum& sum);

private:
    /// How often each item of a benchmark is taken, draw after draw.
    const std::vector<std::uint16_t>& draws(std::size_t benchmark, std::size_t items);
    /// A model's score in every draw, as a fraction.
    const std::vector<double>& drawnScores(std::size_t row, std::size_t benchmark);
    /// A merge's HV gain in every draw; empty when an outcome is not recorded.
    const std::vector<double>& drawnGains(std::size_t row);

    const ScoreTable& scores_;
    const Analysis& analysis_;
    std::map<std::pair<std::size_t, std::size_t>, std::vector<std::uint16_t>> draws_;  // by benchmark and number of items
    std::map<std::pair<std::size_t, std::size_t>, std::vector<double>> drawnScores_;   // by row and benchmark
    std::map<std::size_t, std::vector<double>> drawnGains_;                            // by row
};

}  // namespace aimerge
