#include "aimerge/report/report_folder.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "html_page.h"

#include <fmt/format.h>

#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

void createFolder(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw RuntimeFault("{}: cannot create the folder: {}", folder.string(), error.message());
}

std::string markdownReport(const Report& report, bool pictures) {
    std::string text = fmt::format("# {}\n", report.title);
    for (const std::string& sentence : report.answer) text += fmt::format("\n{}\n", markdownText(sentence));
    const auto addList = [&text](const std::string& title, const std::vector<std::string>& lines) {
        if (!lines.empty()) text += title;
        for (const std::string& line : lines) text += fmt::format("- {}\n", markdownText(line));
    };
    addList("\n", report.answerNotes);
    addList("\nMissing:\n\n", report.notices);
    for (const ReportTable& table : report.tables)
        text += fmt::format("\n## {}\n\n{}\n{}\n", table.title, markdownTable(table), captionText(table));
    if (pictures)
        for (const Figure& figure : report.figures)
            text += fmt::format("\n## {}\n\n![{}](figures/{}.svg)\n\n{}\n", figure.title, figure.title, figure.name,
                                figure.caption);
    addList("\n## How this was made\n\n", report.facts);
    return text;
}

}  // namespace

std::vector<std::string> writeReport(const Report& report, const fs::path& folder) {
    createFolder(folder / "tables");
    createFolder(folder / "figures");
    for (const ReportTable& table : report.tables) {
        const fs::path file = folder / "tables" / table.name;
        writeTextFile(file.string() + ".csv", csvTable(table));
        writeTextFile(file.string() + ".md", markdownTable(table));
        writeTextFile(file.string() + ".tex", latexTable(table));
    }
    const std::string undrawn = drawFigures(report.figures, folder / "figures");
    const PagePart interactive = interactiveFigure(report.interactive);
    const bool pictures = undrawn.empty();
    writeTextFile(folder / "report.md", markdownReport(report, pictures));
    writeTextFile(folder / "report.html", htmlPage(report, folder, interactive, pictures));
    std::vector<std::string> missing;
    if (!undrawn.empty()) missing.push_back("the report has no figures: " + undrawn);
    if (!interactive.missing.empty()) missing.push_back("report.html has no interactive figure: " + interactive.missing);
    return missing;
}

}  // namespace aimerge
