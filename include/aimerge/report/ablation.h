#pragma once
// The tables of a report on a set of merges: as the AIM paper's Tables 1 and 2 are laid out, Pareto fronts, all scores, what
// is missing.

#include "aimerge/report/analysis.h"
#include "aimerge/report/report_table.h"

#include <string>
#include <vector>

namespace aimerge {

/// The merges of one method and one combination of experts.
struct MergeGroup {
    std::string method;
    std::vector<std::string> experts;
    std::optional<std::size_t> plain;  // row without AIM
    std::vector<std::size_t> withAim;  // rows with AIM, by rising ω, those without ω last
};

/// Methods in the order of the file, and for each its combinations in that order.
std::vector<MergeGroup> mergeGroups(const ScoreTable& scores);

/// "code + math", in one order of the experts, by merged row; empty for other rows.
std::vector<std::string> combinationNames(const ScoreTable& scores);

/// The row with AIM that a table with one per merge shows: ω = 0.4, as the paper's Table 1, or the nearest.
std::optional<std::size_t> shownWithAim(const ScoreTable& scores, const MergeGroup& group);

/// Layout of Table 1: reference models, then every merge without and with AIM. Best: among merges of the same experts.
ReportTable ablationTable(const ScoreTable& scores, const Analysis& analysis);

/// Layout of Table 2, one per combination that has a method with three or more ω: every ω of every method.
/// Best: of the table; best of its part: of the method.
std::vector<ReportTable> omegaTables(const ScoreTable& scores, const Analysis& analysis);

/// The members of the Pareto front of all models.
ReportTable frontTable(const ScoreTable& scores, const Analysis& analysis);

/// Every row of the file with everything computed, and how it was scored.
ReportTable scoresTable(const ScoreTable& scores, const Analysis& analysis);

/// Rows whose status is not `done`, with the error.
ReportTable missingTable(const ScoreTable& scores);

}  // namespace aimerge
