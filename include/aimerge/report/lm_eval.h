#pragma once
// Scores that lm-eval 0.4.x wrote: a folder per model with results_*.json somewhere below it, as
// src/tools/score_with_lm_eval.py leaves them. docs/file-formats.md says which metric of a task counts.

#include "aimerge/report/score_table.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

/// Adds what FOLDER/MODEL/**/results_*.json hold to the rows of the table, by their `model`: a column per task,
/// in percent, and how it was scored. Of several files with one task the last by name counts; a task that is
/// part of a group is left out.
/// @returns notices: rows without results, folders without a row, tasks without a known metric, runs of part of the items
/// @throws InputError when FOLDER has no results for any row, a file is damaged, or a task is a column of the table already
std::vector<std::string> addLmEvalScores(ScoreTable& table, const std::filesystem::path& folder);

}  // namespace aimerge
