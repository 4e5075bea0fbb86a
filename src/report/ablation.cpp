#include "aimerge/report/ablation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace aimerge {
namespace {

constexpr int kScoreDecimals = 2, kGainDecimals = 4;
constexpr double kPaperOmega = 0.4;
constexpr std::size_t kOmegasOfACurve = 3;

enum class Changes { Shown, Left };

std::string omegaText(const ScoreRow& row) {
    return row.kind == ModelKind::Merged && row.omega ? fmt::format("{:g}", *row.omega) : "\u2013";
}

std::vector<ReportColumn> scoreColumns(const ScoreTable& scores, Changes changes) {
    std::vector<ReportColumn> columns;
    const auto noteKey = [changes](const std::string& key) {
        return changes == Changes::Shown ? key + "_change_pct" : std::string();
    };
    for (const Benchmark& benchmark : scores.benchmarks)
        columns.push_back({benchmark.name + (benchmark.lowerIsBetter ? " \u2193" : ""), benchmark.name,
                           noteKey(benchmark.name), true, benchmark.lowerIsBetter});
    columns.push_back({"HV gain", "hv_gain", noteKey("hv_gain"), true, false});
    return columns;
}

std::vector<ReportCell> scoreCells(const ScoreTable& scores, const Analysis& analysis, std::size_t row, Changes changes) {
    std::vector<ReportCell> cells;
    const auto add = [&](std::optional<double> value, std::optional<double> change, int decimals) {
        ReportCell cell = numberCell(value, decimals);
        if (changes == Changes::Shown && change) {
            cell.note = percentText(change);
            cell.noteValue = change;
        }
        cells.push_back(std::move(cell));
    };
    const RowAnalysis& computed = analysis.rows[row];
    for (std::size_t b = 0; b < scores.benchmarks.size(); ++b)
        add(scores.rows[row].done() ? scores.rows[row].scores[b] : std::nullopt, computed.change[b], kScoreDecimals);
    add(computed.gain, computed.gainChange, kGainDecimals);
    return cells;
}

void append(std::vector<ReportCell>& cells, std::vector<ReportCell> more) {
    for (ReportCell& cell : more) cells.push_back(std::move(cell));
}

std::string frontText(const RowAnalysis& row) {
    return row.onFront ? "all" : row.onOwnFront ? "same experts" : "";
}

std::string populationText(Population population) {
    switch (population) {
        case Population::Stated:
            return "HV gain: over the base and the experts merged; of two experts, over these two.";
        case Population::AsPrinted:
            return "HV gain: over the populations behind the paper's printed values.";
        default:
            return "HV gain: over the base and all experts.";
    }
}

void addReferenceModels(ReportTable& table, const ScoreTable& scores, const Analysis& analysis, Changes changes,
                        std::size_t leadingColumns) {
    for (const ModelKind kind : {ModelKind::Base, ModelKind::Expert}) {
        for (std::size_t i = 0; i < scores.rows.size(); ++i) {
            if (scores.rows[i].kind != kind) continue;
            ReportRow row{{textCell(scores.rows[i].model)}, table.rows.empty()};
            while (row.cells.size() < leadingColumns) row.cells.push_back(textCell("\u2013"));
            append(row.cells, scoreCells(scores, analysis, i, changes));
            row.cells.push_back(textCell(analysis.rows[i].onFront ? "all" : ""));
            table.rows.push_back(std::move(row));
        }
    }
}

ReportTable omegaTable(const ScoreTable& scores, const Analysis& analysis, const std::vector<const MergeGroup*>& groups) {
    const std::string experts = combinationText(groups.front()->experts);
    ReportTable table{
        fileName(fmt::format("omega-{}", fmt::join(groups.front()->experts, "-"))),
        "Merges of " + experts + " over \u03C9",
        populationText(analysis.population) + " Pareto: on the front of all models, or of the merges of the same experts.",
        "best of all",
        "best of the method",
        "",
        {{"method", "method", "", false, false}, {"\u03C9", "omega", "", false, false}},
        {}};
    for (const ReportColumn& column : scoreColumns(scores, Changes::Left)) table.columns.push_back(column);
    table.columns.push_back({"Pareto", "pareto", "", false, false});
    std::vector<std::size_t> all;
    for (const MergeGroup* group : groups) {
        std::vector<std::size_t> rows = group->withAim, part;
        if (group->plain) rows.push_back(*group->plain);
        for (const std::size_t i : rows) {
            part.push_back(table.rows.size());
            ReportRow row{
                {textCell(group->method), textCell(omegaText(scores.rows[i]))}, part.size() == 1, scores.rows[i].model};
            append(row.cells, scoreCells(scores, analysis, i, Changes::Left));
            row.cells.push_back(textCell(frontText(analysis.rows[i])));
            table.rows.push_back(std::move(row));
        }
        markBest(table, part, &ReportCell::bestOfPart);
        all.insert(all.end(), part.begin(), part.end());
    }
    markBest(table, all, &ReportCell::best);
    return table;
}

MergeGroup groupOf(const ScoreTable& scores, const std::string& method, const std::vector<std::string>& experts) {
    MergeGroup group{method, experts, {}, {}};
    std::string plainMethod = method;
    const auto isOf = [&](const ScoreRow& row) {
        return row.kind == ModelKind::Merged && sameExperts(row.experts, experts);
    };
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        const ScoreRow& row = scores.rows[i];
        if (!isOf(row) || !row.aim || row.method != method) continue;
        group.withAim.push_back(i);
        plainMethod = row.plainMethod;
    }
    for (std::size_t i = 0; i < scores.rows.size(); ++i)
        if (isOf(scores.rows[i]) && !scores.rows[i].aim && scores.rows[i].method == plainMethod) group.plain = i;
    return group;
}

}  // namespace

std::vector<MergeGroup> mergeGroups(const ScoreTable& scores) {
    std::vector<std::string> methods;
    std::vector<std::vector<std::string>> combinations;
    for (const ScoreRow& row : scores.rows) {
        if (row.kind != ModelKind::Merged) continue;
        if (std::find(methods.begin(), methods.end(), row.method) == methods.end()) methods.push_back(row.method);
        if (std::none_of(combinations.begin(), combinations.end(),
                         [&row](const auto& c) { return sameExperts(c, row.experts); }))
            combinations.push_back(row.experts);
    }
    std::vector<MergeGroup> groups;
    for (const std::string& method : methods) {
        for (const std::vector<std::string>& experts : combinations) {
            MergeGroup group = groupOf(scores, method, experts);
            std::stable_sort(group.withAim.begin(), group.withAim.end(), [&scores](std::size_t a, std::size_t b) {
                return scores.rows[a].omega.value_or(2) < scores.rows[b].omega.value_or(2);
            });
            if (group.plain || !group.withAim.empty()) groups.push_back(std::move(group));
        }
    }
    // A merge that is relaxed in several ways is in the group of each of them.
    const std::vector<MergeGroup> all = groups;
    std::erase_if(groups, [&](const MergeGroup& group) {
        return group.withAim.empty() && std::ranges::any_of(all, [&](const MergeGroup& other) {
                   return !other.withAim.empty() && other.plain == group.plain;
               });
    });
    return groups;
}

std::vector<std::string> combinationNames(const ScoreTable& scores) {
    std::vector<std::string> names(scores.rows.size());
    for (const MergeGroup& group : mergeGroups(scores)) {
        const std::string name = combinationText(group.experts);
        for (const std::size_t row : group.withAim) names[row] = name;
        if (group.plain) names[*group.plain] = name;
    }
    return names;
}

std::optional<std::size_t> shownWithAim(const ScoreTable& scores, const MergeGroup& group) {
    const auto distance = [&scores](std::size_t row) { return std::abs(scores.rows[row].omega.value_or(2) - kPaperOmega); };
    const auto nearest = std::min_element(group.withAim.begin(), group.withAim.end(),
                                          [&distance](std::size_t a, std::size_t b) { return distance(a) < distance(b); });
    return nearest == group.withAim.end() ? std::nullopt : std::optional(*nearest);
}

ReportTable ablationTable(const ScoreTable& scores, const Analysis& analysis) {
    ReportTable table{"ablation", "Merges with and without AIM",
                      "",         "best among merges of the same experts",
                      "",         "change against the same merge without AIM",
                      {},         {}};
    table.columns = {{"method", "method", "", false, false},
                     {"experts", "combination", "", false, false},
                     {"AIM", "aim", "", false, false}};
    for (const ReportColumn& column : scoreColumns(scores, Changes::Shown)) table.columns.push_back(column);
    table.columns.push_back({"Pareto", "pareto", "", false, false});
    addReferenceModels(table, scores, analysis, Changes::Shown, 3);

    std::set<std::string> omegas;
    std::map<std::multiset<std::string>, std::vector<std::size_t>> rowsOfCombination;
    std::string method;
    for (const MergeGroup& group : mergeGroups(scores)) {
        for (const auto& index : {group.plain, shownWithAim(scores, group)}) {
            if (!index) continue;
            const ScoreRow& source = scores.rows[*index];
            if (source.aim) omegas.insert(omegaText(source));
            rowsOfCombination[{group.experts.begin(), group.experts.end()}].push_back(table.rows.size());
            ReportRow row{
                {textCell(group.method), textCell(combinationText(group.experts)), textCell(source.aim ? "yes" : "no")},
                group.method != method,
                source.model};
            method = group.method;
            append(row.cells, scoreCells(scores, analysis, *index, Changes::Shown));
            row.cells.push_back(textCell(frontText(analysis.rows[*index])));
            table.rows.push_back(std::move(row));
        }
    }
    for (const auto& [experts, rows] : rowsOfCombination) markBest(table, rows, &ReportCell::best);
    table.caption = fmt::format("{}{} Pareto: on the front of all models, or of the merges of the same experts.",
                                omegas.empty() ? "" : fmt::format("AIM: \u03C9 = {}. ", fmt::join(omegas, ", ")),
                                populationText(analysis.population));
    return table;
}

std::vector<ReportTable> omegaTables(const ScoreTable& scores, const Analysis& analysis) {
    const std::vector<MergeGroup> groups = mergeGroups(scores);
    std::vector<std::vector<const MergeGroup*>> byCombination;
    for (const MergeGroup& group : groups) {
        const auto same = std::find_if(byCombination.begin(), byCombination.end(), [&group](const auto& others) {
            return sameExperts(others.front()->experts, group.experts);
        });
        if (same == byCombination.end()) {
            byCombination.push_back({&group});
        } else {
            same->push_back(&group);
        }
    }
    std::vector<ReportTable> tables;
    for (const auto& ofCombination : byCombination) {
        const bool hasCurve = std::any_of(ofCombination.begin(), ofCombination.end(), [](const MergeGroup* group) {
            return group->withAim.size() + group->plain.has_value() >= kOmegasOfACurve;
        });
        if (hasCurve) tables.push_back(omegaTable(scores, analysis, ofCombination));
    }
    return tables;
}

ReportTable frontTable(const ScoreTable& scores, const Analysis& analysis) {
    ReportTable table{
        "pareto",
        "Pareto front of all models",
        "Models to which no other is at least as good in every benchmark and better in one. Perplexities do not count.",
        "best of these",
        "",
        "",
        {{"model", "model", "", false, false}},
        {}};
    for (const ReportColumn& column : scoreColumns(scores, Changes::Left)) table.columns.push_back(column);
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        if (!analysis.rows[i].onFront) continue;
        all.push_back(table.rows.size());
        ReportRow row{{textCell(scores.rows[i].model)}, false, scores.rows[i].model};
        append(row.cells, scoreCells(scores, analysis, i, Changes::Left));
        table.rows.push_back(std::move(row));
    }
    markBest(table, all, &ReportCell::best);
    return table;
}

ReportTable scoresTable(const ScoreTable& scores, const Analysis& analysis) {
    ReportTable table{
        "scores", "All scores", populationText(analysis.population), "", "", "change against the same merge without AIM", {},
        {}};
    for (const char* key : {"model", "kind", "method", "combination", "omega", "aim"})
        table.columns.push_back({key, key, "", false, false});
    for (const ReportColumn& column : scoreColumns(scores, Changes::Shown)) table.columns.push_back(column);
    table.columns.push_back({"Pareto", "pareto", "", false, false});
    table.columns.push_back({"seconds", "seconds", "", true, true});
    table.columns.push_back({"scored by", "scored_by", "", false, false});
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        const ScoreRow& source = scores.rows[i];
        const bool merged = source.kind == ModelKind::Merged;
        ReportRow row{{textCell(source.model), textCell(std::string(kindName(source.kind))), textCell(source.method),
                       textCell(fmt::format("{}", fmt::join(source.experts, "+"))), textCell(omegaText(source)),
                       textCell(!merged      ? ""
                                : source.aim ? "yes"
                                             : "no")},
                      false,
                      source.model};
        append(row.cells, scoreCells(scores, analysis, i, Changes::Shown));
        row.cells.push_back(textCell(frontText(analysis.rows[i])));
        row.cells.push_back(numberCell(source.seconds, 1));
        row.cells.push_back(textCell(source.scoredBy));
        table.rows.push_back(std::move(row));
    }
    return table;
}

ReportTable missingTable(const ScoreTable& scores) {
    ReportTable table{
        "missing",
        "Not scored",
        "Rows whose status is not done.",
        "",
        "",
        "",
        {{"model", "model", "", false, false}, {"status", "status", "", false, false}, {"error", "error", "", false, false}},
        {}};
    for (const ScoreRow& row : scores.rows)
        if (!row.done()) table.rows.push_back({{textCell(row.model), textCell(row.status), textCell(row.error)}, false});
    return table;
}

}  // namespace aimerge
