#include "aimerge/report/gain_error.h"

#include "report/hypervolume.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace aimerge {
namespace {

std::vector<std::size_t> countingBenchmarks(const ScoreTable& scores) {
    std::vector<std::size_t> benchmarks;
    for (std::size_t b = 0; b < scores.benchmarks.size(); ++b)
        if (scores.counts(b)) benchmarks.push_back(b);
    return benchmarks;
}

/// Whether all of these models have the outcomes of two or more items, and the same number, in every benchmark.
bool sharesItems(const ScoreTable& scores, const std::vector<std::size_t>& models) {
    return std::ranges::all_of(countingBenchmarks(scores), [&](std::size_t b) {
        const std::size_t items = scores.rows[models.front()].items[b].outcomes.size();
        return items >= 2 && std::ranges::all_of(models, [&](std::size_t model) {
                   return scores.rows[model].items[b].outcomes.size() == items;
               });
    });
}

}  // namespace

const std::vector<std::uint16_t>& GainErrors::draws(std::size_t benchmark, std::size_t items) {
    const auto [draws, isNew] = draws_.try_emplace({benchmark, items});
    if (!isNew) return draws->second;
    draws->second.assign(kBootstrapDraws * items, 0);
    std::mt19937 random(static_cast<std::uint32_t>(benchmark));  // which the standard defines to the bit
    for (std::size_t draw = 0; draw < kBootstrapDraws; ++draw)
        for (std::size_t i = 0; i < items; ++i) {
            const std::uint64_t item = (std::uint64_t{random()} * items) >> 32;
            ++draws->second[draw * items + item];
        }
    return draws->second;
}

const std::vector<double>& GainErrors::drawnScores(std::size_t row, std::size_t benchmark) {
    const auto [drawn, isNew] = drawnScores_.try_emplace({row, benchmark});
    if (!isNew) return drawn->second;
    const std::string& outcomes = scores_.rows[row].items[benchmark].outcomes;
    const std::size_t items = outcomes.size();
    const std::vector<std::uint16_t>& taken = draws(benchmark, items);
    for (std::size_t draw = 0; draw < kBootstrapDraws; ++draw) {
        std::size_t right = 0;
        for (std::size_t i = 0; i < items; ++i) right += outcomes[i] == '1' ? taken[draw * items + i] : 0;
        drawn->second.push_back(static_cast<double>(right) / static_cast<double>(items));
    }
    return drawn->second;
}

const std::vector<double>& GainErrors::drawnGains(std::size_t row) {
    const auto [gains, isNew] = drawnGains_.try_emplace(row);
    if (!isNew) return gains->second;
    std::vector<std::size_t> models = populationOf(scores_, scores_.rows[row], analysis_.population);
    models.insert(models.begin(), row);
    if (!sharesItems(scores_, models)) return gains->second;
    for (std::size_t draw = 0; draw < kBootstrapDraws; ++draw) {
        std::vector<ScorePoint> points(models.size());
        for (std::size_t m = 0; m < models.size(); ++m)
            for (const std::size_t b : countingBenchmarks(scores_)) points[m].push_back(drawnScores(models[m], b)[draw]);
        const ScorePoint own = points.front();
        points.erase(points.begin());
        gains->second.push_back(hypervolumeGain(own, points));
    }
    return gains->second;
}

std::optional<double> GainErrors::of(const GainSum& sum) {
    std::vector<std::size_t> rows;
    for (const auto& [row, weight] : sum) rows.push_back(row);
    if (rows.empty() || !sharesItems(scores_, rows)) return std::nullopt;
    std::vector<double> sums(kBootstrapDraws, 0);
    for (const auto& [row, weight] : sum) {
        const std::vector<double>& gains = drawnGains(row);
        if (gains.empty()) return std::nullopt;
        for (std::size_t draw = 0; draw < kBootstrapDraws; ++draw) sums[draw] += weight * gains[draw];
    }
    double mean = 0, squares = 0;
    for (const double value : sums) mean += value / kBootstrapDraws;
    for (const double value : sums) squares += (value - mean) * (value - mean);
    return std::sqrt(squares / (kBootstrapDraws - 1));
}

}  // namespace aimerge
