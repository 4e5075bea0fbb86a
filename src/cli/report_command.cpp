// aimerge report: tables and figures from the scores of a sweep, or of any models in a CSV file.

#include "cli/activity_map.h"
#include "cli/command_line.h"
#include "cli/options.h"

#include "aimerge/core/error.h"
#include "aimerge/core/program_files.h"
#include "aimerge/core/version.h"
#include "aimerge/distributed/world.h"
#include "aimerge/experiment/recorded_points.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/report/ablation.h"
#include "aimerge/report/answer.h"
#include "aimerge/report/interactive_figure.h"
#include "aimerge/report/lm_eval.h"
#include "aimerge/report/paper_comparison.h"
#include "aimerge/report/report_folder.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

#include <filesystem>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

/// What the options name.
struct Sources {
    fs::path scores, out;
    fs::path statistics;  // empty: none
};

Sources sourcesOf(const Options& options) {
    if (options.subject.empty() == options.scores.empty())
        throw UsageError("report takes the folder of a sweep, or --scores FILE.csv");
    if (!options.scores.empty())
        return {options.scores, options.out.empty() ? "report" : options.out, options.statisticsLog};
    const fs::path folder = options.subject;
    Sources sources{folder / "points.csv", options.out.empty() ? folder / "report" : fs::path(options.out),
                    options.statisticsLog};
    if (!fs::is_regular_file(sources.scores))
        throw InputError("{}: no points.csv; expected the folder that `aimerge sweep` writes", folder.string());
    if (sources.statistics.empty() && fs::is_regular_file(folder / kStatisticsLogName))
        sources.statistics = folder / kStatisticsLogName;
    return sources;
}

/// A sweep writes percent.
ScoreScale scaleOf(const Options& options) {
    if (options.scale == 0) return options.subject.empty() ? ScoreScale::Guess : ScoreScale::Hundred;
    return options.scale == 1 ? ScoreScale::One : ScoreScale::Hundred;
}

/// What the scores are, for the report and, where it was guessed, for the user.
std::string scaleText(const ScaledScores& scores, const Options& options) {
    const bool one = scores.scale == ScoreScale::One;
    const std::string text = fmt::format("scores are read as {}", one ? "fractions, 0 to 1" : "percent, 0 to 100");
    if (scaleOf(options) != ScoreScale::Guess) return text;
    if (one && !scores.table.benchmarks.empty())
        spdlog::info("{}: {}, as none is above 1; --scale 100 reads them as percent", scores.table.file.string(), text);
    return text + (one ? ", as none is above 1" : ", as some are above 1");
}

void printJson(const ScoreTable& scores, const Analysis& analysis, const Answer& answer) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        if (scores.rows[i].kind != ModelKind::Merged) continue;
        nlohmann::ordered_json gain;  // null where there is none
        if (analysis.rows[i].gain) gain = *analysis.rows[i].gain;
        list.push_back({{"model", scores.rows[i].model}, {"hv_gain", gain}});
    }
    nlohmann::ordered_json json = answerJson(answer, scores, analysis);
    json["merges"] = std::move(list);
    fmt::print("{}\n", json.dump(2));
}

/// The tables for the terminal are the first ones; the rest is for the files.
struct Tables {
    std::vector<ReportTable> shown, further;
};

Tables tablesOf(const ScoreTable& scores, const Analysis& analysis, const Options& options) {
    Tables tables;
    ReportTable aim = aimTable(scores, analysis);
    if (!aim.rows.empty()) tables.shown.push_back(std::move(aim));
    tables.shown.push_back(ablationTable(scores, analysis));
    for (ReportTable& table : omegaTables(scores, analysis)) tables.shown.push_back(std::move(table));
    if (options.comparePaper > 0)
        tables.shown.push_back(paperComparison(scores, analysis, options.comparePaper, programFiles().paperTables));
    tables.further.push_back(frontTable(scores, analysis));
    tables.further.push_back(scoresTable(scores, analysis));
    ReportTable missing = missingTable(scores);
    if (!missing.rows.empty()) tables.shown.push_back(std::move(missing));
    return tables;
}

void printTables(const Report& report, const std::vector<ReportTable>& tables) {
    for (const std::string& sentence : report.answer) fmt::print("{}\n", sentence);
    for (const std::string& note : report.answerNotes) fmt::print("{}\n", note);
    fmt::print("\n");
    for (const ReportTable& table : tables)
        fmt::print("{}\n\n{}{}\n\n", table.title, terminalTable(table), terminalCaption(table));
}

void requireScores(const ScoreTable& scores) {
    if (scores.benchmarks.empty())
        throw InputError(
            "{}: there is no column with scores; add one per benchmark, or name results of lm-eval by --lm-eval",
            scores.file.string());
    for (const ScoreRow& row : scores.rows)
        if (row.kind == ModelKind::Merged) return;
    throw InputError("{}: there is no row of kind `merged`", scores.file.string());
}

void declareReport(CLI::App& app, Options& options) {
    app.add_option("sweep", options.subject, "Folder of a sweep: its points.csv is read, the report is written into it");
    app.add_option("--scores", options.scores, "Scores of any models instead: a CSV file, one row per model")
        ->type_name("FILE.csv");
    app.add_option("--lm-eval", options.lmEval, "Add scores of lm-eval: a folder with one folder of results per model")
        ->type_name("FOLDER");
    app.add_option("--scale", options.scale,
                   "Scores are from 0 to 1 or to 100 (default: 100 if one is above 1, and of a sweep)")
        ->check(CLI::IsMember({1, 100}));
    app.add_option("--population", options.population, "Models over whose hypervolume a merge's gain is computed")
        ->check(CLI::IsMember({"stated", "as-printed", "all"}))
        ->capture_default_str();
    app.add_option("--compare-paper", options.comparePaper,
                   "Compare with the printed Table 1, 2 or 3 of the AIM paper (default: 1)")
        ->check(CLI::IsMember({1, 2, 3}))
        ->expected(0, 1)
        ->default_str("1")
        ->type_name("[TABLE]");
    app.add_option("--statistics", options.statisticsLog, "Add a heat map of a statistics log (default: the sweep's)")
        ->type_name("LOG.h5");
    app.add_option("--out", options.out, "Folder of the report (default: report in the sweep's folder, or here)");
    app.add_flag("--json", options.json,
                 "Print the answer and the HV gain of every merge as JSON, and write files only with --out");
    app.add_flag("--dry-run", options.dryRun, "Only say what would be read and written");
}

/// Its tables, of which the first are printed, and its figures.
void fillReport(Report& report, const ScoreTable& scores, const Analysis& analysis, const Options& options,
                const Sources& sources) {
    Tables tables = tablesOf(scores, analysis, options);
    if (!options.json) printTables(report, tables.shown);
    report.tables = std::move(tables.shown);
    for (ReportTable& table : tables.further) report.tables.push_back(std::move(table));
    std::optional<ActivityMap> activity;
    if (!sources.statistics.empty())
        activity = activityMap(readStatisticsLog(sources.statistics), sources.statistics.filename().string());
    report.figures = figuresOf(scores, analysis, activity);
    report.interactive = interactiveData(scores, analysis);
    for (const ScoreRow& row : scores.rows)
        if (!row.config.empty()) report.configs.emplace_back(row.model, row.config);
    if (!options.subject.empty() && report.configs.empty())
        report.facts.emplace_back("the sweep's journal does not have the configs of its merges");
}

void runReport(World& world, const Options& options) {
    if (!world.isRoot()) return;
    const Sources sources = sourcesOf(options);
    if (options.dryRun) {
        fmt::print("would read {} and write the report into {}\n", sources.scores.string(), sources.out.string());
        return;
    }
    ScaledScores scores = readScores(sources.scores, scaleOf(options));
    if (!options.subject.empty()) addRecorded(scores.table, SweepJournal(options.subject, SweepJournal::Use::Read));
    Report report;
    report.title = "Scores of " + (options.subject.empty() ? sources.scores.string() : options.subject);
    report.facts = {"made by aimerge " + std::string(kVersion) + ": " + commandLine(), scaleText(scores, options)};
    if (!options.lmEval.empty()) report.notices = addLmEvalScores(scores.table, options.lmEval);
    requireScores(scores.table);
    const Analysis analysis = analyse(scores.table, parsePopulation(options.population));
    report.notices.insert(report.notices.end(), analysis.notices.begin(), analysis.notices.end());
    for (const std::string& notice : report.notices) spdlog::warn("{}", notice);
    const Answer answer = answerOf(scores.table, analysis);

    if (options.json) {
        printJson(scores.table, analysis, answer);
        if (options.out.empty()) return;
    }
    report.answer = answerText(answer, scores.table, analysis);
    report.answerNotes = answerNotes(answer, scores.table, analysis);
    fillReport(report, scores.table, analysis, options, sources);
    for (const std::string& missing : writeReport(report, sources.out)) spdlog::warn("{}", missing);
    spdlog::info("wrote {}", (sources.out / "report.html").string());
}

}  // namespace

const Command kReportCommand{"report",
                             "Tables and figures of merges from their scores: HV gain, Pareto fronts, AIM against no AIM",
                             "aimerge report sweeps/table1", declareReport, runReport};

}  // namespace aimerge
