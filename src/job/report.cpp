#include "job/activity_map.h"

#include "aimerge/core/error.h"
#include "aimerge/core/program_files.h"
#include "aimerge/core/version.h"
#include "aimerge/experiment/recorded_points.h"
#include "aimerge/job/command_line.h"
#include "aimerge/job/report.h"
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

/// A sweep writes percent.
ScoreScale scaleOf(const ReportRequest& request) {
    if (request.scale == 0) return request.sweep.empty() ? ScoreScale::Guess : ScoreScale::Hundred;
    return request.scale == 1 ? ScoreScale::One : ScoreScale::Hundred;
}

/// What the scores are, for the report and, where it was guessed, for the user.
std::string scaleText(const ScaledScores& scores, const ReportRequest& request) {
    const bool one = scores.scale == ScoreScale::One;
    const std::string text = fmt::format("scores are read as {}", one ? "fractions, 0 to 1" : "percent, 0 to 100");
    if (scaleOf(request) != ScoreScale::Guess) return text;
    if (one && !scores.table.benchmarks.empty())
        spdlog::info("{}: {}, as none is above 1; --scale 100 reads them as percent", scores.table.file.string(), text);
    return text + (one ? ", as none is above 1" : ", as some are above 1");
}

nlohmann::ordered_json jsonOf(const ScoreTable& scores, const Analysis& analysis, const Answer& answer) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        if (scores.rows[i].kind != ModelKind::Merged) continue;
        nlohmann::ordered_json gain;  // null where there is none
        if (analysis.rows[i].gain) gain = *analysis.rows[i].gain;
        list.push_back({{"model", scores.rows[i].model}, {"hv_gain", gain}});
    }
    nlohmann::ordered_json json = answerJson(answer, scores, analysis);
    json["merges"] = std::move(list);
    return json;
}

/// The tables for the terminal are the first ones; the rest is for the files.
struct Tables {
    std::vector<ReportTable> shown, further;
};

Tables tablesOf(const ScoreTable& scores, const Analysis& analysis, const ReportRequest& request) {
    Tables tables;
    ReportTable aim = aimTable(scores, analysis);
    if (!aim.rows.empty()) tables.shown.push_back(std::move(aim));
    tables.shown.push_back(ablationTable(scores, analysis));
    for (ReportTable& table : omegaTables(scores, analysis)) tables.shown.push_back(std::move(table));
    if (request.comparePaper > 0)
        tables.shown.push_back(paperComparison(scores, analysis, request.comparePaper, programFiles().paperTables));
    tables.further.push_back(frontTable(scores, analysis));
    tables.further.push_back(scoresTable(scores, analysis));
    ReportTable missing = missingTable(scores);
    if (!missing.rows.empty()) tables.shown.push_back(std::move(missing));
    return tables;
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

/// Its tables and figures. @return how many of the tables are for the terminal
std::size_t fillReport(Report& report, const ScoreTable& scores, const Analysis& analysis, const ReportRequest& request,
                       const fs::path& statistics) {
    Tables tables = tablesOf(scores, analysis, request);
    const std::size_t shown = tables.shown.size();
    report.tables = std::move(tables.shown);
    for (ReportTable& table : tables.further) report.tables.push_back(std::move(table));
    std::optional<ActivityMap> activity;
    if (!statistics.empty()) activity = activityMap(readStatisticsLog(statistics), statistics.filename().string());
    report.figures = figuresOf(scores, analysis, activity);
    report.interactive = interactiveData(scores, analysis);
    for (const ScoreRow& row : scores.rows)
        if (!row.config.empty()) report.configs.emplace_back(row.model, row.config);
    if (!request.sweep.empty() && report.configs.empty())
        report.facts.emplace_back("the sweep's journal does not have the configs of its merges");
    return shown;
}

}  // namespace

ReportFiles filesOf(const ReportRequest& request) {
    if (request.sweep.empty() == request.scores.empty())
        throw UsageError("report takes the folder of a sweep, or --scores FILE.csv");
    if (!request.scores.empty())
        return {request.scores, request.out.empty() ? "report" : request.out, request.statisticsLog};
    const fs::path folder = request.sweep;
    ReportFiles sources{folder / "points.csv", request.out.empty() ? folder / "report" : fs::path(request.out),
                        request.statisticsLog};
    if (!fs::is_regular_file(sources.scores))
        throw InputError("{}: no points.csv; expected the folder that `aimerge sweep` writes", folder.string());
    if (sources.statistics.empty() && fs::is_regular_file(folder / kStatisticsLogName))
        sources.statistics = folder / kStatisticsLogName;
    return sources;
}

ReportOutcome makeReport(const ReportRequest& request) {
    const ReportFiles sources = filesOf(request);
    ScaledScores scores = readScores(sources.scores, scaleOf(request));
    if (!request.sweep.empty()) addRecorded(scores.table, SweepJournal(request.sweep, SweepJournal::Use::Read));
    Report report;
    report.title = "Scores of " + (request.sweep.empty() ? sources.scores.string() : request.sweep);
    report.facts = {"made by aimerge " + std::string(kVersion) + ": " + commandLine(), scaleText(scores, request)};
    if (!request.lmEval.empty()) report.notices = addLmEvalScores(scores.table, request.lmEval);
    requireScores(scores.table);
    const Analysis analysis = analyse(scores.table, parsePopulation(request.population));
    report.notices.insert(report.notices.end(), analysis.notices.begin(), analysis.notices.end());
    for (const std::string& notice : report.notices) spdlog::warn("{}", notice);
    const Answer answer = answerOf(scores.table, analysis);

    ReportOutcome outcome;
    outcome.json = jsonOf(scores.table, analysis, answer);
    if (!request.writes) return outcome;
    outcome.answer = report.answer = answerText(answer, scores.table, analysis);
    outcome.answerNotes = report.answerNotes = answerNotes(answer, scores.table, analysis);
    const std::size_t shown = fillReport(report, scores.table, analysis, request, sources.statistics);
    for (const std::string& missing : writeReport(report, sources.out)) spdlog::warn("{}", missing);
    report.tables.resize(shown);
    outcome.tables = std::move(report.tables);
    outcome.page = sources.out / "report.html";
    return outcome;
}

}  // namespace aimerge
