#include "aimerge/report/report_table.h"

#include "aimerge/report/csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace aimerge {
namespace {

constexpr std::string_view kDash = "\u2013";

/// Characters, not bytes, of UTF-8.
std::size_t widthOf(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(std::string_view text, std::size_t width, bool right) {
    const std::string blanks(width - std::min(width, widthOf(text)), ' ');
    return right ? blanks + std::string(text) : std::string(text) + blanks;
}

std::string replaced(std::string_view text, const std::vector<std::pair<std::string_view, std::string_view>>& replacements) {
    std::string result;
    while (!text.empty()) {
        const auto hit = std::find_if(replacements.begin(), replacements.end(),
                                      [text](const auto& replacement) { return text.starts_with(replacement.first); });
        result += hit == replacements.end() ? text.substr(0, 1) : hit->second;
        text.remove_prefix(hit == replacements.end() ? 1 : hit->first.size());
    }
    return result;
}

std::string latexText(std::string_view text) {
    return replaced(text, {{"\\", "\\textbackslash{}"},
                           {"&", "\\&"},
                           {"%", "\\%"},
                           {"$", "\\$"},
                           {"#", "\\#"},
                           {"_", "\\_"},
                           {"{", "\\{"},
                           {"}", "\\}"},
                           {"~", "\\textasciitilde{}"},
                           {"^", "\\textasciicircum{}"},
                           {"\u2013", "--"},
                           {"\u2212", "$-$"},
                           {"\u03C9", "$\\omega$"},
                           {"\u2191", "$\\uparrow$"},
                           {"\u2193", "$\\downarrow$"}});
}

std::string withNote(const std::string& text, const std::string& note) {
    return note.empty() ? text : fmt::format("{} ({})", text, note);
}

std::string legend(std::string_view mark, const std::string& meaning) {
    return meaning.empty() ? "" : fmt::format("{}: {}. ", mark, meaning);
}

/// How many leading cells a row shares with the one above, within a part.
std::size_t repeatedCells(const ReportTable& table, std::size_t row) {
    if (row == 0 || table.rows[row].startsPart) return 0;
    std::size_t same = 0;
    while (same < table.columns.size() && !table.columns[same].numeric &&
           table.rows[row].cells[same].text == table.rows[row - 1].cells[same].text)
        ++same;
    return same;
}

/// Without its end, and with the value that it is sorted by.
std::string htmlCell(const ReportCell& cell, const ReportColumn& column) {
    std::string shown = htmlText(cell.text);
    if (cell.best) shown = "<strong>" + shown + "</strong>";
    if (cell.bestOfPart) shown = "<u>" + shown + "</u>";
    if (!cell.note.empty())
        shown += fmt::format("<small{}>{}</small>", cell.noteValue && *cell.noteValue < 0 ? " class=\"less\"" : "",
                             htmlText(cell.note));
    if (!column.numeric) return fmt::format("<td data-text=\"{}\">{}", cell.text == kDash ? "" : htmlText(cell.text), shown);
    return fmt::format("<td class=\"number\"{}>{}", cell.value ? fmt::format(" data-value=\"{}\"", *cell.value) : "", shown);
}

}  // namespace

ReportCell textCell(std::string text) {
    ReportCell cell;
    cell.text = std::move(text);
    return cell;
}

ReportCell numberCell(std::optional<double> value, int decimals) {
    ReportCell cell;
    cell.text = value ? fmt::format("{:.{}f}", *value, decimals) : std::string(kDash);
    cell.value = value;
    return cell;
}

std::string percentText(std::optional<double> percent) {
    if (!percent || *percent == 0) return "";
    return fmt::format("{:+.2f}%", *percent);
}

void markBest(ReportTable& table, const std::vector<std::size_t>& rows, bool ReportCell::*mark) {
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
        const ReportColumn& column = table.columns[c];
        if (!column.numeric) continue;
        std::optional<double> best;
        for (const std::size_t row : rows) {
            const std::optional<double>& value = table.rows[row].cells[c].value;
            if (value && (!best || (column.lowerIsBetter ? *value < *best : *value > *best))) best = value;
        }
        for (const std::size_t row : rows) {
            ReportCell& cell = table.rows[row].cells[c];
            if (best && cell.value == best) cell.*mark = true;
        }
    }
}

std::string captionText(const ReportTable& table) {
    return legend("Bold", table.best) + legend("Underlined", table.bestOfPart) + legend("In brackets", table.notes) +
           table.caption;
}

std::string terminalCaption(const ReportTable& table) {
    return legend("*", table.best) + legend("'", table.bestOfPart) + legend("To the right of a score", table.notes) +
           table.caption;
}

std::string terminalTable(const ReportTable& table) {
    std::vector<std::vector<std::string>> lines;
    std::vector<std::size_t> widths, noteWidths;
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
        widths.push_back(widthOf(table.columns[c].title));
        std::size_t& noteWidth = noteWidths.emplace_back(0);
        for (const ReportRow& row : table.rows) noteWidth = std::max(noteWidth, widthOf(row.cells[c].note));
    }
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
        std::vector<std::string>& line = lines.emplace_back();
        const std::size_t blank = repeatedCells(table, r);
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            const ReportCell& cell = table.rows[r].cells[c];
            const std::string marks = std::string(cell.best ? "*" : "") + (cell.bestOfPart ? "'" : "");
            // The note as wide as the longest, so that the numbers before it stand one below the other.
            const std::string note = noteWidths[c] == 0 ? "" : fmt::format(" {:>{}}", cell.note, noteWidths[c]);
            line.push_back(c < blank ? "" : cell.text + (table.columns[c].numeric ? padded(marks, 1, false) : marks) + note);
            widths[c] = std::max(widths[c], widthOf(line.back()));
        }
    }
    std::string header;
    for (std::size_t c = 0; c < widths.size(); ++c)
        header += padded(table.columns[c].title, widths[c], table.columns[c].numeric) + "  ";
    while (header.ends_with(' ')) header.pop_back();
    const std::string rule(widthOf(header), '-');
    std::string text = header + "\n" + rule + "\n";
    for (std::size_t r = 0; r < lines.size(); ++r) {
        if (r > 0 && table.rows[r].startsPart) text += "\n";
        std::string line;
        for (std::size_t c = 0; c < widths.size(); ++c)
            line += padded(lines[r][c], widths[c], table.columns[c].numeric) + "  ";
        while (line.ends_with(' ')) line.pop_back();
        text += line + "\n";
    }
    return text;
}

std::string markdownTable(const ReportTable& table) {
    std::string text = "|", rule = "|";
    for (const ReportColumn& column : table.columns) {
        text += fmt::format(" {} |", markdownText(column.title));
        rule += column.numeric ? " ---: |" : " --- |";
    }
    text += "\n" + rule + "\n";
    for (const ReportRow& row : table.rows) {
        text += "|";
        for (const ReportCell& cell : row.cells) {
            std::string shown = markdownText(cell.text);
            if (cell.best) shown = "**" + shown + "**";
            if (cell.bestOfPart) shown = "<ins>" + shown + "</ins>";
            text += fmt::format(" {} |", withNote(shown, cell.note));
        }
        text += "\n";
    }
    return text;
}

std::string csvTable(const ReportTable& table) {
    std::vector<std::string> fields;
    for (const ReportColumn& column : table.columns) {
        fields.push_back(csvField(column.key));
        if (!column.noteKey.empty()) fields.push_back(csvField(column.noteKey));
    }
    std::string text = fmt::format("{}\n", fmt::join(fields, ","));
    const auto number = [](std::optional<double> value) { return value ? fmt::format("{}", *value) : std::string(); };
    for (const ReportRow& row : table.rows) {
        fields.clear();
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            const ReportCell& cell = row.cells[c];
            fields.push_back(table.columns[c].numeric ? number(cell.value) : csvField(cell.text == kDash ? "" : cell.text));
            if (!table.columns[c].noteKey.empty()) fields.push_back(number(cell.noteValue));
        }
        text += fmt::format("{}\n", fmt::join(fields, ","));
    }
    return text;
}

std::string latexTable(const ReportTable& table) {
    std::string alignment;
    std::vector<std::string> fields;
    for (const ReportColumn& column : table.columns) {
        alignment += column.numeric ? 'r' : 'l';
        fields.push_back(latexText(column.title));
    }
    std::string text = fmt::format(
        "% \\usepackage{{graphicx}}: what is wider than the text is made smaller\n"
        "\\begin{{table*}}\n\\centering\\scriptsize\\setlength{{\\tabcolsep}}{{3pt}}\\renewcommand{{\\arraystretch}}{{1.2}}"
        "\n\\caption{{{} {}}}\\vspace{{4pt}}\n"
        "\\resizebox{{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}}{{!}}{{%\n"
        "\\begin{{tabular}}{{{}}}\n\\hline\n{} \\\\\n\\hline\n",
        latexText(table.title + "."), latexText(captionText(table)), alignment, fmt::join(fields, " & "));
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
        if (r > 0 && table.rows[r].startsPart) text += "\\hline\n";
        fields.clear();
        const std::size_t blank = repeatedCells(table, r);
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            const ReportCell& cell = table.rows[r].cells[c];
            std::string shown = latexText(cell.text);
            if (cell.best) shown = "\\textbf{" + shown + "}";
            if (cell.bestOfPart) shown = "\\underline{" + shown + "}";
            fields.push_back(c < blank ? "" : withNote(shown, latexText(cell.note)));
        }
        text += fmt::format("{} \\\\\n", fmt::join(fields, " & "));
    }
    return text + "\\hline\n\\end{tabular}}\n\\end{table*}\n";
}

std::string fileName(std::string_view text) {
    std::string name;
    for (const char c : text) {
        const bool plain =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
        if (plain || (!name.empty() && name.back() != '-')) name += plain ? c : '-';
    }
    while (name.ends_with('-')) name.pop_back();
    return name;
}

std::string markdownText(std::string_view text) {
    return replaced(text, {{"|", "\\|"}, {"*", "\\*"}, {"_", "\\_"}, {"<", "&lt;"}, {"\n", " "}});
}

std::string htmlText(std::string_view text) {
    return replaced(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string htmlTable(const ReportTable& table, const std::map<std::string, std::size_t>& configs) {
    std::string text = "<table>\n<thead><tr>";
    for (const ReportColumn& column : table.columns)
        text += fmt::format("<th{}{}>{}</th>", column.numeric ? " class=\"number\"" : "",
                            column.lowerIsBetter ? " data-lower" : "", htmlText(column.title));
    text += "</tr></thead>\n<tbody>\n";
    for (const ReportRow& row : table.rows) {
        text += row.startsPart ? "<tr class=\"part\">" : "<tr>";
        const auto config = configs.find(row.model);
        for (std::size_t c = 0; c < table.columns.size(); ++c) {
            text += htmlCell(row.cells[c], table.columns[c]);
            if (c == 0 && config != configs.end())
                text += fmt::format(" <a class=\"config\" href=\"#config-{}\">config</a>", config->second);
            text += "</td>";
        }
        text += "</tr>\n";
    }
    return text + "</tbody>\n</table>\n";
}

}  // namespace aimerge
