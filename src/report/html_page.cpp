#include "html_page.h"

#include "aimerge/core/file.h"
#include "page_parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <string_view>

namespace aimerge {
namespace {

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

std::string list(std::string_view name, const std::vector<std::string>& lines) {
    if (lines.empty()) return "";
    std::string text = fmt::format("<ul class=\"{}\">\n", name);
    for (const std::string& line : lines) text += fmt::format("<li>{}</li>\n", htmlText(line));
    return text + "</ul>\n";
}

/// Numbers of the elements `config-N`, by model.
std::map<std::string, std::size_t> configNumbers(const Report& report) {
    std::map<std::string, std::size_t> numbers;
    for (std::size_t i = 0; i < report.configs.size(); ++i) numbers[report.configs[i].first] = i;
    return numbers;
}

/// ω and its value on one line.
std::string withOmegasWhole(std::string text) {
    constexpr std::string_view kOmega = "\u03C9 ";
    for (std::size_t at = 0; (at = text.find(kOmega, at)) != std::string::npos; ++at)
        text.replace(at, kOmega.size(), "\u03C9&nbsp;");
    return text;
}

std::string answer(const Report& report) {
    std::string text;
    for (const std::string& sentence : report.answer)
        text += fmt::format("<p class=\"answer\">{}</p>\n", withOmegasWhole(htmlText(sentence)));
    return text + list("notes", report.answerNotes);
}

std::string interactivePart(const PagePart& interactive) {
    if (interactive.missing.empty()) return interactive.html;
    return fmt::format("<p class=\"missing\">The interactive figure is missing: {}</p>\n", htmlText(interactive.missing));
}

std::string figuresPart(const Report& report, const std::filesystem::path& folder, bool isOpen) {
    std::vector<std::string> titles;
    for (const Figure& figure : report.figures) titles.push_back(figure.title);
    std::string text = fmt::format(
        "<h2>Figures for print</h2>\n<p class=\"caption\">In the folder <code>figures</code>, as SVG and PNG.</p>\n"
        "<details{}><summary>{}</summary>\n",
        isOpen ? " open" : "", htmlText(fmt::format("{}", fmt::join(titles, "; "))));
    for (const Figure& figure : report.figures)
        text += fmt::format("<h3>{}</h3>\n<figure>\n{}</figure>\n<p class=\"caption\">{}</p>\n", htmlText(figure.title),
                            inlineSvg(readTextFile(folder / "figures" / (figure.name + ".svg"))), htmlText(figure.caption));
    return text + "</details>\n";
}

std::string configsPart(const Report& report) {
    std::string text =
        "<h2>Configs</h2>\n<p class=\"caption\">Each makes its merge again: <code>aimerge merge CONFIG.yaml --out "
        "FOLDER</code>, "
        "started in the folder in which the sweep ran, as its paths are relative to it.</p>\n";
    for (std::size_t i = 0; i < report.configs.size(); ++i)
        text += fmt::format("<details id=\"config-{}\" data-model=\"{}\"><summary>{}</summary><pre>{}</pre></details>\n", i,
                            htmlText(report.configs[i].first), htmlText(report.configs[i].first),
                            htmlText(report.configs[i].second));
    return text +
           "<dialog id=\"config\"><h3></h3><p>Makes this merge again: <code>aimerge merge CONFIG.yaml --out FOLDER</code>, "
           "in "
           "the folder in which the sweep ran.</p><pre></pre><button class=\"copy\">Copy</button> <button "
           "class=\"close\">Close</button></dialog>\n";
}

}  // namespace

std::string htmlPage(const Report& report, const std::filesystem::path& folder, const PagePart& interactive, bool figures) {
    std::string text = fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n<style>{1}</style>\n"
        "</head>\n<body>\n<h1>{0}</h1>\n",
        htmlText(report.title), kPageStyle);
    text += answer(report) + list("notices", report.notices) + interactivePart(interactive);
    const std::map<std::string, std::size_t> configs = configNumbers(report);
    for (const ReportTable& table : report.tables)
        text += fmt::format("<h2>{}</h2>\n<div class=\"table\" id=\"table-{}\">\n{}</div>\n<p class=\"caption\">{}</p>\n",
                            htmlText(table.title), htmlText(table.name), htmlTable(table, configs),
                            htmlText(captionText(table)));
    if (figures && !report.figures.empty()) text += figuresPart(report, folder, interactive.html.empty());
    if (!report.configs.empty()) text += configsPart(report);
    text += "<h2>How this was made</h2>\n" + list("facts", report.facts);
    return text + fmt::format("<script>{}</script>\n</body>\n</html>\n", kPageScript);
}

}  // namespace aimerge
