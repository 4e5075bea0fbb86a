#include "aimerge/report/analysis.h"

#include "aimerge/core/error.h"
#include "report/hypervolume.h"

#include <fmt/ranges.h>

#include <limits>
#include <set>

namespace aimerge {
namespace {

/// The scores that count in hypervolumes and fronts, as fractions; none when one of them is missing.
std::optional<ScorePoint> pointOf(const ScoreTable& table, const ScoreRow& row) {
    if (!row.done()) return std::nullopt;
    ScorePoint point;
    for (std::size_t b = 0; b < table.benchmarks.size(); ++b) {
        if (!table.counts(b)) continue;
        if (!row.scores[b]) return std::nullopt;
        point.push_back(*row.scores[b] / 100);
    }
    return point;
}

using Points = std::vector<std::optional<ScorePoint>>;

std::optional<double> percentChange(std::optional<double> from, std::optional<double> to) {
    if (!from || !to) return std::nullopt;
    if (*from == *to) return 0;
    if (*from == 0) return std::numeric_limits<double>::infinity();
    return (*to - *from) / *from * 100;
}

/// The row of this merge without AIM.
std::optional<std::size_t> plainRowOf(const ScoreTable& table, std::size_t index) {
    const ScoreRow& row = table.rows[index];
    std::optional<std::size_t> plain;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        const ScoreRow& other = table.rows[i];
        if (other.kind != ModelKind::Merged || other.aim || other.method != row.plainMethod ||
            !sameExperts(other.experts, row.experts))
            continue;
        if (plain)
            throw InputError(
                "{}: lines {} and {} are both {} of {} without AIM; give two settings of a method names of their own",
                table.file.string(), table.rows[*plain].line, other.line, row.method, combinationText(row.experts));
        plain = i;
    }
    if (plain == index) return std::nullopt;
    return plain;
}

void addGains(const ScoreTable& table, const Points& points, Analysis& analysis) {
    std::set<std::string> unscoredMembers;
    std::size_t withoutMembers = 0;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        if (table.rows[i].kind != ModelKind::Merged || !points[i] || points[i]->empty()) continue;
        std::vector<ScorePoint> members;
        bool complete = true;
        for (const std::size_t member : populationOf(table, table.rows[i], analysis.population)) {
            if (points[member]) {
                members.push_back(*points[member]);
            } else {
                complete = false;
                unscoredMembers.insert(table.rows[member].model);
            }
        }
        withoutMembers += !complete;
        if (complete) analysis.rows[i].gain = hypervolumeGain(*points[i], members);
    }
    if (withoutMembers > 0)
        analysis.notices.push_back(fmt::format("{} merged models have no HV gain, because {} {} no complete scores",
                                               withoutMembers, fmt::join(unscoredMembers, ", "),
                                               unscoredMembers.size() == 1 ? "has" : "have"));
}

void addChanges(const ScoreTable& table, Analysis& analysis) {
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        RowAnalysis& row = analysis.rows[i];
        row.change.assign(table.benchmarks.size(), std::nullopt);
        if (table.rows[i].kind != ModelKind::Merged) continue;
        row.plain = plainRowOf(table, i);
        if (!row.plain || !table.rows[i].done() || !table.rows[*row.plain].done()) continue;
        for (std::size_t b = 0; b < table.benchmarks.size(); ++b)
            row.change[b] = percentChange(table.rows[*row.plain].scores[b], table.rows[i].scores[b]);
        row.gainChange = percentChange(analysis.rows[*row.plain].gain, row.gain);
    }
}

/// Calls mark(row) for those of `rows` that are on their Pareto front.
template <typename Mark>
void markFront(const Points& points, const std::vector<std::size_t>& rows, Mark&& mark) {
    std::vector<ScorePoint> scored;
    std::vector<std::size_t> scoredRows;
    for (const std::size_t row : rows) {
        if (!points[row] || points[row]->empty()) continue;
        scored.push_back(*points[row]);
        scoredRows.push_back(row);
    }
    const std::vector<bool> front = paretoFront(scored);
    for (std::size_t i = 0; i < front.size(); ++i)
        if (front[i]) mark(scoredRows[i]);
}

/// The merges of the same experts, these experts and the base.
std::vector<std::size_t> peersOf(const ScoreTable& table, const ScoreRow& merged) {
    std::vector<std::size_t> peers;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        const ScoreRow& row = table.rows[i];
        if (row.kind == ModelKind::Base || (row.kind == ModelKind::Merged && sameExperts(row.experts, merged.experts)))
            peers.push_back(i);
    }
    for (const std::string& name : merged.experts)
        if (const auto expert = table.expertRow(name)) peers.push_back(*expert);
    return peers;
}

void addFronts(const ScoreTable& table, const Points& points, Analysis& analysis) {
    std::vector<std::size_t> all(table.rows.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
    markFront(points, all, [&](std::size_t row) { analysis.rows[row].onFront = true; });
    std::set<std::multiset<std::string>> seen;
    for (const ScoreRow& row : table.rows) {
        if (row.kind != ModelKind::Merged || !seen.emplace(row.experts.begin(), row.experts.end()).second) continue;
        markFront(points, peersOf(table, row), [&](std::size_t member) {
            if (table.rows[member].kind == ModelKind::Merged) analysis.rows[member].onOwnFront = true;
        });
    }
}

}  // namespace

Analysis analyse(const ScoreTable& table, Population population) {
    Points points;
    std::size_t incomplete = 0;
    for (const ScoreRow& row : table.rows) {
        points.push_back(pointOf(table, row));
        incomplete += row.done() && !points.back();
    }
    Analysis analysis{population, std::vector<RowAnalysis>(table.rows.size()), {}};
    for (std::size_t b = 0; b < table.benchmarks.size(); ++b)
        if (!table.counts(b) && !table.benchmarks[b].lowerIsBetter)
            analysis.notices.push_back(fmt::format("{0} is shown only; HV gain and Pareto fronts take {0}{1}",
                                                   table.benchmarks[b].name, kPaperPrompt));
    if (incomplete > 0)
        analysis.notices.push_back(
            fmt::format("{} models lack some scores: they have no HV gain and no place on Pareto fronts", incomplete));
    addGains(table, points, analysis);
    addChanges(table, analysis);
    addFronts(table, points, analysis);
    return analysis;
}

}  // namespace aimerge
