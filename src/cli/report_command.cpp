// aimerge report: tables and figures from the scores of a sweep, or of any models in a CSV file.

#include "cli/options.h"

#include "aimerge/distributed/world.h"
#include "aimerge/job/report.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

namespace aimerge {
namespace {

ReportRequest requestOf(const Options& options) {
    ReportRequest request = options.report;
    request.sweep = options.subject;
    request.out = options.out;
    request.writes = !options.json || !options.out.empty();
    return request;
}

void printReport(const ReportOutcome& report) {
    for (const std::string& sentence : report.answer) fmt::print("{}\n", sentence);
    for (const std::string& note : report.answerNotes) fmt::print("{}\n", note);
    fmt::print("\n");
    for (const ReportTable& table : report.tables)
        fmt::print("{}\n\n{}{}\n\n", table.title, terminalTable(table), terminalCaption(table));
}

void declareReport(CLI::App& app, Options& options) {
    app.add_option("sweep", options.subject, "Folder of a sweep: its points.csv is read, the report is written into it");
    app.add_option("--scores", options.report.scores, "Scores of any models instead: a CSV file, one row per model")
        ->type_name("FILE.csv");
    app.add_option("--lm-eval", options.report.lmEval,
                   "Add scores of lm-eval: a folder with one folder of results per model")
        ->type_name("FOLDER");
    app.add_option("--scale", options.report.scale,
                   "Scores range from 0 to 1 or from 0 to 100 (default: 100 for a sweep, or if one is above 1)")
        ->check(CLI::IsMember({1, 100}));
    app.add_option("--population", options.report.population, "Models that HV gain is measured against")
        ->check(CLI::IsMember({"stated", "as-printed", "all"}))
        ->capture_default_str();
    app.add_option("--compare-paper", options.report.comparePaper,
                   "Compare with the printed Table 1, 2 or 3 of the AIM paper (default: 1)")
        ->check(CLI::IsMember({1, 2, 3}))
        ->expected(0, 1)
        ->default_str("1")
        ->type_name("[TABLE]");
    app.add_option("--statistics", options.report.statisticsLog, "Add a heat map of a statistics log (default: the sweep's)")
        ->type_name("LOG.h5");
    app.add_option("--out", options.out, "Folder of the report (default: report in the sweep's folder, or here)");
    app.add_flag("--json", options.json,
                 "Print the answer and the HV gain of every merge as JSON, and write files only with --out");
    app.add_flag("--dry-run", options.dryRun, "Only say what would be read and written");
}

void runReport(World& world, const Options& options) {
    if (!world.isRoot()) return;
    const ReportRequest request = requestOf(options);
    if (options.dryRun) {
        const ReportFiles files = filesOf(request);
        fmt::print("would read {} and write the report into {}\n", files.scores.string(), files.out.string());
        return;
    }
    const ReportOutcome report = makeReport(request);
    options.json ? fmt::print("{}\n", report.json.dump(2)) : printReport(report);
    if (request.writes) spdlog::info("wrote {}", report.page.string());
}

}  // namespace

const Command kReportCommand{"report", "Tables and figures of scores: HV gain, Pareto fronts, effect of AIM",
                             "aimerge report build/demo/table1", declareReport, runReport};

}  // namespace aimerge
