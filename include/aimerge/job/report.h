#pragma once
// A report from the scores of a sweep, or of any models in a CSV file: tables, figures, one page. Local.

#include "aimerge/report/report_table.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

struct ReportRequest {
    std::string sweep;   // its folder; or
    std::string scores;  // a CSV file, one row per model
    std::string lmEval;  // folder with one folder of lm-eval's results per model; empty = none
    std::string statisticsLog;
    std::string out;  // folder of the report; empty = `report` in the sweep's folder, or here
    std::string population = "stated";
    int scale = 0;         // 1 or 100; 0 = guess
    int comparePaper = 0;  // table of the paper; 0 = none
    bool writes = true;    // else the answer alone is found
};

struct ReportFiles {
    std::filesystem::path scores, out;
    std::filesystem::path statistics;  // empty: none
};

/// What is read and written. @throws UsageError, InputError
ReportFiles filesOf(const ReportRequest& request);

struct ReportOutcome {
    nlohmann::ordered_json json;                   // the answer, and the HV gain of every merge
    std::vector<std::string> answer, answerNotes;  // sentences
    std::vector<ReportTable> tables;               // for a terminal
    std::filesystem::path page;                    // report.html
};

/// @throws UsageError, InputError for scores that cannot be read, RuntimeFault when the report cannot be written
ReportOutcome makeReport(const ReportRequest& request);

}  // namespace aimerge
