#pragma once
// A report as files: report.md, report.html (one page that needs nothing else), tables/NAME.{md,csv,tex},
// figures/NAME.{svg,png} and figures/data.json.

#include "aimerge/report/figures.h"
#include "aimerge/report/report_table.h"

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {

struct Report {
    std::string title;
    std::vector<std::string> answer, answerNotes;  // what it says first
    std::vector<std::string> facts;                // where the scores are from, how everything was computed
    std::vector<std::string> notices;              // what is missing
    std::vector<ReportTable> tables;
    std::vector<Figure> figures;
    nlohmann::ordered_json interactive;                        // what the page's interactive figure shows
    std::vector<std::pair<std::string, std::string>> configs;  // a merge's name and its config as YAML
};

/// Writes the report; files of an earlier one with the same names are replaced. Local, blocking.
/// @returns what is missing and why: the figures, the page's interactive one
/// @throws RuntimeFault when a file cannot be written
std::vector<std::string> writeReport(const Report& report, const std::filesystem::path& folder);

}  // namespace aimerge
