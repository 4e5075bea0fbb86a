#include "aimerge/report/paper_comparison.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/report/csv.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <map>
#include <set>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

struct MethodNames {
    std::string_view ours, printed;
};
constexpr std::array kMethodNames{
    MethodNames{"task_arithmetic", "task_arithmetic"},
    MethodNames{"ties", "ties_merging"},
    MethodNames{"dare_linear", "dare_task_arithmetic"},
    MethodNames{"dare_linear", "dare_average"},
    MethodNames{"dare_ties", "dare_ties"},
    MethodNames{"widen", "widen"},
};

/// Lower case, '_' for everything that is neither letter nor digit, without a setting in brackets.
std::string plainName(std::string_view text) {
    std::string name;
    for (const char c : text.substr(0, text.find('('))) {
        const bool letter = std::isalnum(static_cast<unsigned char>(c));
        name += letter ? static_cast<char>(std::tolower(static_cast<unsigned char>(c))) : '_';
    }
    while (name.ends_with('_')) name.pop_back();
    return name;
}

std::string ourMethod(std::string_view method) {
    const std::string name = plainName(method);
    for (const MethodNames& names : kMethodNames)
        if (name == names.printed || name == names.ours) return std::string(names.ours);
    return name;
}

/// What makes a measured and a printed row the same: kind, method, roles, ω. Empty when a role is not known.
std::string identity(const ScoreRow& row) {
    if (row.kind == ModelKind::Base) return "base";
    std::multiset<std::string> roles;
    for (const std::string& expert : row.experts) roles.emplace(roleOf(expert));
    if (row.kind == ModelKind::Expert && row.experts.empty()) roles.emplace(roleOf(row.model));
    if (roles.contains("")) return "";
    if (row.kind == ModelKind::Expert) return fmt::format("expert {}", fmt::join(roles, "+"));
    if (!row.omega) return "";
    return fmt::format("{} {} {:.6f}", ourMethod(row.method), fmt::join(roles, "+"), *row.omega);
}

/// HV gain by model.
std::map<std::string, double> readGains(const fs::path& file) {
    std::map<std::string, double> gains;
    const std::vector<CsvRecord> records = parseCsv(readTextFile(file), file);
    for (std::size_t i = 1; i < records.size(); ++i) {
        try {
            gains[records[i].fields.at(0)] = std::stod(records[i].fields.at(1));
        } catch (const std::exception&) {
            throw InputError("{}: line {}: expected a model and its HV gain", file.string(), records[i].line);
        }
    }
    return gains;
}

std::optional<std::size_t> measuredBenchmark(const ScoreTable& scores, const std::string& printed) {
    for (const std::string& name : {printed + std::string(kPaperPrompt), printed})
        for (std::size_t b = 0; b < scores.benchmarks.size(); ++b)
            if (plainName(scores.benchmarks[b].name) == name) return b;
    return std::nullopt;
}

/// "2.3", as a note beside a measured value.
void addPrinted(ReportCell& cell, std::optional<double> printed, int decimals) {
    if (!printed) return;
    cell.note = fmt::format("{:.{}f}", *printed, decimals);
    cell.noteValue = printed;
}

/// Mean absolute difference of measured and printed values, of the columns that have both.
std::string differencesText(const ReportTable& table) {
    std::vector<std::string> parts;
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
        double sum = 0;
        int count = 0;
        for (const ReportRow& row : table.rows) {
            if (!row.cells[c].value || !row.cells[c].noteValue) continue;
            sum += std::abs(*row.cells[c].value - *row.cells[c].noteValue);
            ++count;
        }
        const int decimals = table.columns[c].key == "hv_gain" ? 4 : 2;
        if (count > 0) parts.push_back(fmt::format("{} {:.{}f}", table.columns[c].title, sum / count, decimals));
    }
    return parts.empty() ? "" : fmt::format(" Mean absolute difference: {}.", fmt::join(parts, ", "));
}

}  // namespace

ReportTable paperComparison(const ScoreTable& scores, const Analysis& analysis, int paperTable, const fs::path& folder) {
    const ScoreTable printed = readScores(folder / fmt::format("table{}.csv", paperTable), ScoreScale::Hundred).table;
    const std::map<std::string, double> gains = readGains(folder / fmt::format("table{}-gains.csv", paperTable));
    const int gainDecimals = paperTable == 2 ? 4 : 2;
    std::map<std::string, std::size_t> measured;
    for (std::size_t i = 0; i < scores.rows.size(); ++i)
        if (const std::string key = identity(scores.rows[i]); !key.empty()) measured.emplace(key, i);

    ReportTable table{fmt::format("paper-table{}", paperTable),
                      fmt::format("Measured, and printed in Table {} of the paper", paperTable),
                      "",
                      "",
                      "",
                      "as printed",
                      {{"method", "method", "", false, false},
                       {"experts", "combination", "", false, false},
                       {"\u03C9", "omega", "", false, false}},
                      {}};
    std::vector<std::optional<std::size_t>> columnOf;
    for (const Benchmark& benchmark : printed.benchmarks) {
        columnOf.push_back(measuredBenchmark(scores, benchmark.name));
        const std::string& title = columnOf.back() ? scores.benchmarks[*columnOf.back()].name : benchmark.name;
        table.columns.push_back({title, benchmark.name, benchmark.name + "_printed", true, false});
    }
    table.columns.push_back({"HV gain", "hv_gain", "hv_gain_printed", true, false});

    std::string method;
    for (const ScoreRow& row : printed.rows) {
        const auto found = measured.find(identity(row));
        if (found == measured.end()) continue;
        const ScoreRow& own = scores.rows[found->second];
        const bool merged = row.kind == ModelKind::Merged;
        ReportRow line{
            {textCell(merged ? own.method : own.model), textCell(merged ? combinationText(own.experts) : "\u2013"),
             textCell(merged ? fmt::format("{:g}", *own.omega) : "\u2013")},
            row.method != method,
            own.model};
        method = row.method;
        for (std::size_t b = 0; b < printed.benchmarks.size(); ++b) {
            line.cells.push_back(numberCell(own.done() && columnOf[b] ? own.scores[*columnOf[b]] : std::nullopt, 2));
            addPrinted(line.cells.back(), row.scores[b], 2);
        }
        line.cells.push_back(numberCell(analysis.rows[found->second].gain, 4));
        if (const auto gain = gains.find(row.model); gain != gains.end())
            addPrinted(line.cells.back(), gain->second, gainDecimals);
        table.rows.push_back(std::move(line));
    }
    table.caption = fmt::format("{} of the {} printed rows have a counterpart here.{}", table.rows.size(),
                                printed.rows.size(), differencesText(table));
    if (paperTable != 2 && analysis.population != Population::AsPrinted)
        table.caption +=
            " The printed HV gains of two experts were taken over other pairs than the text states: compare with population "
            "as-printed.";
    return table;
}

}  // namespace aimerge
