#pragma once
// A table of a report, independent of the format it is written in.

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct ReportColumn {
    std::string title;    // for people
    std::string key;      // name in CSV
    std::string noteKey;  // name in CSV of the column's notes; empty: the column has none
    bool numeric = false;
    bool lowerIsBetter = false;
};

struct ReportCell {
    std::string text;             // for people
    std::string note;             // shown in brackets after the text
    std::optional<double> value;  // of numeric columns; CSV has it in full precision
    std::optional<double> noteValue;
    bool best = false;        // bold
    bool bestOfPart = false;  // underlined
};

struct ReportRow {
    std::vector<ReportCell> cells;  // one per column
    bool startsPart = false;        // a rule is drawn above it
    std::string model = {};         // the merge whose config belongs to it; empty: none
};

struct ReportTable {
    std::string name;  // of its files
    std::string title, caption;
    std::string best, bestOfPart, notes;  // what the marks and the notes mean; empty: there are none
    std::vector<ReportColumn> columns;
    std::vector<ReportRow> rows;
};

ReportCell textCell(std::string text);
/// With `decimals` decimals; a dash where there is none.
ReportCell numberCell(std::optional<double> value, int decimals);
/// "+9.09%", "-1.19%", "+inf%"; empty for no change.
std::string percentText(std::optional<double> percent);

/// Marks the best cells of every numeric column among `rows`; equal ones all.
void markBest(ReportTable& table, const std::vector<std::size_t>& rows, bool ReportCell::*mark);

/// For a terminal: `*` after the best, `'` after the best of their part; a leading cell equal to
/// the one above is left blank.
std::string terminalTable(const ReportTable& table);
/// The caption with the meaning of marks and notes, for all other formats and for a terminal.
std::string captionText(const ReportTable& table);
std::string terminalCaption(const ReportTable& table);
std::string markdownTable(const ReportTable& table);
/// RFC 4180; numbers in full precision, notes in columns of their own.
std::string csvTable(const ReportTable& table);
/// A `table*` that needs no package.
std::string latexTable(const ReportTable& table);
/// @param configs numbers of the elements `config-N` that rows with this model link to
std::string htmlTable(const ReportTable& table, const std::map<std::string, std::size_t>& configs = {});

/// A part of a file's name: letters, digits, '.' and '_' stay, everything else becomes '-'.
std::string fileName(std::string_view text);

/// What a line of Markdown needs to show the text as it is.
std::string markdownText(std::string_view text);
/// & < > " as HTML needs them.
std::string htmlText(std::string_view text);

}  // namespace aimerge
