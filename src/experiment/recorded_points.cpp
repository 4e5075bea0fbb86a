#include "aimerge/experiment/recorded_points.h"

#include <algorithm>

namespace aimerge {
namespace {

std::optional<std::size_t> benchmarkOf(const ScoreTable& table, const TaskScore& score) {
    const auto found = std::ranges::find(table.benchmarks, columnName(score), &Benchmark::name);
    if (found == table.benchmarks.end()) return std::nullopt;
    return static_cast<std::size_t>(found - table.benchmarks.begin());
}

bool hasScores(const ScoreTable& table, const ScoreRow& row, const PointResult& result) {
    return std::ranges::all_of(result.scores, [&](const TaskScore& score) {
        const auto benchmark = benchmarkOf(table, score);
        return benchmark && row.scores[*benchmark] == shownValue(score);  // points.csv has every digit
    });
}

}  // namespace

void addRecorded(ScoreTable& table, const SweepJournal& journal) {
    for (ScoreRow& row : table.rows) {
        const auto found = journal.results().find(row.model);
        if (!row.done() || found == journal.results().end()) continue;
        const PointResult& result = found->second;
        if (result.status != PointStatus::Done || !hasScores(table, row, result)) continue;
        row.config = result.config;
        for (const TaskScore& score : result.scores) row.items[*benchmarkOf(table, score)] = {score.items, score.outcomes};
    }
}

}  // namespace aimerge
