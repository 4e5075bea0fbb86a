#include "aimerge/report/report_folder.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPageStyle = R"(
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 100rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
p.caption, ul.facts { color: #444; max-width: 60rem; }
ul.notices { border-left: 4px solid #d55e00; padding: .4rem 0 .4rem 2rem; }
div.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .6rem; text-align: left; vertical-align: baseline; white-space: nowrap; }
td:last-child:not(.number) { white-space: normal; min-width: 8rem; }
th { border-bottom: 2px solid #1a1a1a; } tr.part > td { border-top: 1px solid #999; }
tbody tr:hover { background: #f2f6fa; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
small { color: #555; margin-left: .35em; } small::before { content: '('; } small::after { content: ')'; } small.less { color: #a33c00; }
figure { margin: 0; } figure svg { max-width: 100%; height: auto; }
)";

void createFolder(const fs::path& folder) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw RuntimeFault("{}: cannot create the folder: {}", folder.string(), error.message());
}

/// The <svg> element as HTML has it: without prolog and declarations of namespaces.
std::string inlineSvg(std::string text) {
    text.erase(0, text.find("<svg"));
    for (const std::string_view declaration : {" xmlns=\"", " xmlns:xlink=\""}) {
        const std::size_t begin = text.find(declaration);
        if (begin == std::string::npos) continue;
        text.erase(begin, text.find('"', begin + declaration.size()) + 1 - begin);
    }
    return text;
}

std::string markdownReport(const Report& report, bool pictures) {
    std::string text = fmt::format("# {}\n\n", report.title);
    for (const std::string& fact : report.facts) text += fmt::format("- {}\n", fact);
    if (!report.notices.empty()) text += "\nMissing:\n\n";
    for (const std::string& notice : report.notices) text += fmt::format("- {}\n", notice);
    for (const ReportTable& table : report.tables)
        text += fmt::format("\n## {}\n\n{}\n{}\n", table.title, markdownTable(table), captionText(table));
    if (!pictures) return text;
    for (const Figure& figure : report.figures)
        text +=
            fmt::format("\n## {}\n\n![{}](figures/{}.svg)\n\n{}\n", figure.title, figure.title, figure.name, figure.caption);
    return text;
}

std::string htmlReport(const Report& report, const fs::path& folder, bool pictures) {
    std::string text = fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n<style>{1}</style>\n"
        "</head>\n<body>\n<h1>{0}</h1>\n<ul class=\"facts\">\n",
        htmlText(report.title), kPageStyle);
    for (const std::string& fact : report.facts) text += fmt::format("<li>{}</li>\n", htmlText(fact));
    text += "</ul>\n";
    if (!report.notices.empty()) {
        text += "<ul class=\"notices\">\n";
        for (const std::string& notice : report.notices) text += fmt::format("<li>{}</li>\n", htmlText(notice));
        text += "</ul>\n";
    }
    for (const ReportTable& table : report.tables)
        text += fmt::format("<h2>{}</h2>\n<div class=\"table\">\n{}</div>\n<p class=\"caption\">{}</p>\n",
                            htmlText(table.title), htmlTable(table), htmlText(captionText(table)));
    for (std::size_t i = 0; pictures && i < report.figures.size(); ++i) {
        const Figure& figure = report.figures[i];
        text += fmt::format("<h2>{}</h2>\n<figure>\n{}</figure>\n<p class=\"caption\">{}</p>\n", htmlText(figure.title),
                            inlineSvg(readTextFile(folder / "figures" / (figure.name + ".svg"))), htmlText(figure.caption));
    }
    return text + "</body>\n</html>\n";
}

}  // namespace

std::string writeReport(const Report& report, const fs::path& folder) {
    createFolder(folder / "tables");
    createFolder(folder / "figures");
    for (const ReportTable& table : report.tables) {
        const fs::path file = folder / "tables" / table.name;
        writeTextFile(file.string() + ".csv", csvTable(table));
        writeTextFile(file.string() + ".md", markdownTable(table));
        writeTextFile(file.string() + ".tex", latexTable(table));
    }
    const std::string undrawn = drawFigures(report.figures, folder / "figures");
    const bool pictures = undrawn.empty();
    writeTextFile(folder / "report.md", markdownReport(report, pictures));
    writeTextFile(folder / "report.html", htmlReport(report, folder, pictures));
    return undrawn;
}

}  // namespace aimerge
