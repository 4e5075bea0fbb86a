#include "aimerge/report/score_table.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/report/csv.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

namespace aimerge {
namespace {

constexpr std::array<std::string_view, 3> kNeededColumns{"model", "kind", "combination"};
constexpr std::array<std::string_view, 10> kKnownColumns{"model", "kind",   "method",  "combination", "omega",
                                                         "aim",   "status", "seconds", "error",       "scored_by"};

std::string trimmed(std::string_view text) {
    const auto blank = [](char c) { return c == ' ' || c == '\t'; };
    while (!text.empty() && blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && blank(text.back())) text.remove_suffix(1);
    return std::string(text);
}

/// A field that says nothing: empty, or the dash that tables print.
bool saysNothing(std::string_view text) {
    return text.empty() || text == "-";
}

std::vector<std::string> splitCombination(std::string_view text) {
    std::vector<std::string> experts;
    if (saysNothing(text)) return experts;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('+', begin), text.size());
        experts.push_back(trimmed(text.substr(begin, end - begin)));
        begin = end + 1;
    }
    return experts;
}

/// One record with the names of its columns, and the messages about it.
class NamedRecord {
public:
    NamedRecord(const std::filesystem::path& file, const std::vector<std::string>& columns, const CsvRecord& record)
        : file_(file), columns_(columns), record_(record) {}

    std::size_t line() const { return record_.line; }

    /// Empty where the file has no such column.
    std::string text(std::string_view column) const {
        const auto found = std::find(columns_.begin(), columns_.end(), column);
        return found == columns_.end() ? std::string() : field(static_cast<std::size_t>(found - columns_.begin()));
    }
    const std::vector<std::string>& columns() const { return columns_; }
    std::string field(std::size_t index) const { return trimmed(record_.fields[index]); }

    std::optional<double> number(std::size_t index) const {
        const std::string text = field(index);
        if (saysNothing(text)) return std::nullopt;
        double value = 0;
        const char* end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, value);
        if (error != std::errc{} || stop != end || !std::isfinite(value)) fail(columns_[index], text, "a number");
        return value;
    }
    std::optional<double> number(std::string_view column) const {
        const auto found = std::find(columns_.begin(), columns_.end(), column);
        if (found == columns_.end()) return std::nullopt;
        return number(static_cast<std::size_t>(found - columns_.begin()));
    }

    [[noreturn]] void fail(std::string_view column, std::string_view found, std::string_view expected) const {
        throw InputError("{}: line {}: column `{}`: expected {}, found '{}'", file_.string(), line(), column, expected,
                         found);
    }

private:
    const std::filesystem::path& file_;
    const std::vector<std::string>& columns_;
    const CsvRecord& record_;
};

ModelKind readKind(const NamedRecord& record) {
    const std::string text = record.text("kind");
    for (const ModelKind kind : {ModelKind::Base, ModelKind::Expert, ModelKind::Merged})
        if (text == kindName(kind)) return kind;
    record.fail("kind", text, "base, expert or merged");
}

/// Whether AIM was used: column `aim`, or, where it says nothing, any ω below 1.
bool readAim(const NamedRecord& record, std::optional<double> omega) {
    const std::string text = record.text("aim");
    if (saysNothing(text)) return omega.value_or(1) < 1;
    if (text != "yes" && text != "no") record.fail("aim", text, "yes or no");
    if (text == "no" && omega.value_or(1) != 1)
        record.fail("aim", text, fmt::format("yes with omega {}: without AIM omega is 1 or empty", *omega));
    return text == "yes";
}

/// Merges of one method by other values of a grid are told apart by its name.
void addGridValues(const NamedRecord& record, ScoreRow& row) {
    row.plainMethod = row.method;
    for (std::size_t i = 0; i < record.columns().size(); ++i) {
        const std::string_view column = record.columns()[i];
        const std::string value = record.field(i);
        if (!column.starts_with(kGridColumn) || saysNothing(value)) continue;
        const std::string_view key = column.substr(kGridColumn.size());
        const std::string text = fmt::format(" {}={}", key, value);
        row.method += text;
        if (!key.starts_with("aim_")) row.plainMethod += text;
    }
}

void readMergedModel(const NamedRecord& record, ScoreRow& row) {
    row.method = record.text("method");
    if (saysNothing(row.method)) record.fail("method", row.method, "the method of a merged model");
    addGridValues(record, row);
    if (row.experts.empty()) record.fail("combination", "", "the experts of a merged model, joined by +");
    for (const std::string& expert : row.experts)
        if (expert.empty()) record.fail("combination", record.text("combination"), "names of experts joined by +");
    row.omega = record.number("omega");
    if (row.omega && (*row.omega < 0 || *row.omega > 1)) record.fail("omega", record.text("omega"), "a number in [0, 1]");
    row.aim = readAim(record, row.omega);
    if (!row.aim) row.omega = 1;
}

ScoreRow readRow(const NamedRecord& record, const std::vector<std::size_t>& benchmarkColumns) {
    ScoreRow row;
    row.line = record.line();
    row.model = record.text("model");
    if (row.model.empty()) record.fail("model", row.model, "a name");
    row.kind = readKind(record);
    row.experts = splitCombination(record.text("combination"));
    if (row.kind == ModelKind::Merged) readMergedModel(record, row);
    if (const std::string status = record.text("status"); !status.empty()) row.status = status;
    row.error = record.text("error");
    row.scoredBy = record.text("scored_by");
    row.seconds = record.number("seconds");
    for (const std::size_t column : benchmarkColumns) row.scores.push_back(record.number(column));
    row.items.resize(row.scores.size());
    return row;
}

/// The columns' names. @throws InputError
std::vector<std::string> readHeader(const CsvRecord& header, const std::filesystem::path& file) {
    std::vector<std::string> columns;
    for (const std::string& field : header.fields) {
        const std::string name = trimmed(field);
        if (name.empty())
            throw InputError("{}: line {}: column {} has no name", file.string(), header.line, columns.size() + 1);
        if (std::find(columns.begin(), columns.end(), name) != columns.end())
            throw InputError("{}: line {}: column `{}` is there twice", file.string(), header.line, name);
        columns.push_back(name);
    }
    for (const std::string_view needed : kNeededColumns)
        if (std::find(columns.begin(), columns.end(), needed) == columns.end())
            throw InputError(
                "{}: line {}: column `{}` is missing; a file of scores has model, kind, method, combination, omega, "
                "aim and a column per benchmark",
                file.string(), header.line, needed);
    return columns;
}

/// Checks every score against the scale and makes it percent.
ScoreScale applyScale(ScoreTable& table, ScoreScale scale) {
    const auto forEachScore = [&table](auto&& action) {
        for (ScoreRow& row : table.rows)
            for (std::size_t b = 0; b < row.scores.size(); ++b)
                if (row.scores[b]) action(row, table.benchmarks[b], *row.scores[b]);
    };
    if (scale == ScoreScale::Guess) {
        scale = ScoreScale::One;
        forEachScore([&scale](const ScoreRow&, const Benchmark& benchmark, double score) {
            if (!benchmark.lowerIsBetter && score > 1) scale = ScoreScale::Hundred;
        });
    }
    const double most = scale == ScoreScale::One ? 1 : 100;
    forEachScore([&](const ScoreRow& row, const Benchmark& benchmark, double& score) {
        if (score < 0 || (!benchmark.lowerIsBetter && score > most))
            throw InputError("{}: line {}: column `{}`: expected a score from 0 to {}, found {}", table.file.string(),
                             row.line, benchmark.name, benchmark.lowerIsBetter ? "infinity" : fmt::format("{}", most),
                             score);
        if (!benchmark.lowerIsBetter && scale == ScoreScale::One) score *= 100;
    });
    return scale;
}

/// Checks what concerns several rows.
void checkRows(const ScoreTable& table) {
    std::map<std::string, std::size_t> lineOfModel, lineOfExpert;
    std::optional<std::size_t> lineOfBase;
    for (const ScoreRow& row : table.rows) {
        const auto [earlier, isNew] = lineOfModel.emplace(row.model, row.line);
        if (!isNew)
            throw InputError("{}: line {}: column `model`: '{}' is also on line {}; every row needs a name of its own",
                             table.file.string(), row.line, row.model, earlier->second);
        if (row.kind == ModelKind::Base) {
            if (lineOfBase)
                throw InputError("{}: line {}: column `kind`: there is a base already, on line {}", table.file.string(),
                                 row.line, *lineOfBase);
            lineOfBase = row.line;
        }
        if (row.kind != ModelKind::Expert || row.experts.empty()) continue;
        const auto [other, isNewExpert] = lineOfExpert.emplace(row.experts.front(), row.line);
        if (row.experts.size() > 1 || !isNewExpert)
            throw InputError("{}: line {}: column `combination`: an expert has one name, and no other row has it",
                             table.file.string(), row.line);
    }
}

}  // namespace

bool isPerplexity(std::string_view benchmark) {
    std::string name(benchmark);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    for (const std::string_view ending : {"ppl", "perplexity"}) {
        if (!name.ends_with(ending)) continue;
        if (name.size() == ending.size()) return true;
        const char before = name[name.size() - ending.size() - 1];
        if (before == ':' || before == '_') return true;
    }
    return false;
}

std::string_view kindName(ModelKind kind) {
    switch (kind) {
        case ModelKind::Base:
            return "base";
        case ModelKind::Expert:
            return "expert";
        default:
            return "merged";
    }
}

std::optional<std::size_t> ScoreTable::expertRow(std::string_view name) const {
    std::optional<std::size_t> byModel;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i].kind != ModelKind::Expert) continue;
        if (!rows[i].experts.empty() && rows[i].experts.front() == name) return i;
        if (rows[i].model == name) byModel = i;
    }
    return byModel;
}

std::optional<std::size_t> ScoreTable::baseRow() const {
    for (std::size_t i = 0; i < rows.size(); ++i)
        if (rows[i].kind == ModelKind::Base) return i;
    return std::nullopt;
}

bool ScoreTable::counts(std::size_t benchmark) const {
    if (benchmarks[benchmark].lowerIsBetter) return false;
    const std::string paperPrompt = benchmarks[benchmark].name + std::string(kPaperPrompt);
    return std::none_of(benchmarks.begin(), benchmarks.end(),
                        [&](const Benchmark& other) { return other.name == paperPrompt; });
}

std::string combinationText(const std::vector<std::string>& experts) {
    return fmt::format("{}", fmt::join(experts, " + "));
}

bool sameExperts(const std::vector<std::string>& a, const std::vector<std::string>& b) {
    return std::multiset<std::string>(a.begin(), a.end()) == std::multiset<std::string>(b.begin(), b.end());
}

ScaledScores parseScores(std::string_view text, const std::filesystem::path& file, ScoreScale scale) {
    const std::vector<CsvRecord> records = parseCsv(text, file);
    if (records.empty())
        throw InputError("{}: the file is empty; a line with the columns' names was expected", file.string());
    const std::vector<std::string> columns = readHeader(records.front(), file);

    ScoreTable table{file, {}, {}};
    std::vector<std::size_t> benchmarkColumns;
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (std::find(kKnownColumns.begin(), kKnownColumns.end(), columns[i]) != kKnownColumns.end() ||
            columns[i].starts_with(kGridColumn))
            continue;
        benchmarkColumns.push_back(i);
        table.benchmarks.push_back({columns[i], isPerplexity(columns[i])});
    }
    for (std::size_t i = 1; i < records.size(); ++i) {
        const CsvRecord& record = records[i];
        if (record.fields.size() != columns.size())
            throw InputError("{}: line {}: expected {} fields, as the first line has, found {}", file.string(), record.line,
                             columns.size(), record.fields.size());
        table.rows.push_back(readRow(NamedRecord(file, columns, record), benchmarkColumns));
    }
    checkRows(table);
    const ScoreScale taken = applyScale(table, scale);
    return {std::move(table), taken};
}

ScaledScores readScores(const std::filesystem::path& file, ScoreScale scale) {
    return parseScores(readTextFile(file), file, scale);
}

}  // namespace aimerge
