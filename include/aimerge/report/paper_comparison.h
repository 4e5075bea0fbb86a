#pragma once
// Measured scores beside those that the AIM paper prints (configs/paper/printed).

#include "aimerge/report/analysis.h"
#include "aimerge/report/report_table.h"

#include <filesystem>

namespace aimerge {

/// The rows of the paper's table 1, 2 or 3 that the scores have a counterpart of: the same kind of model, method, experts by
/// role (roleOf) and ω. Measured values, printed ones in brackets. `gsm8k_paper_prompt` is taken before `gsm8k`.
/// @param folder with tableN.csv and tableN-gains.csv
/// @throws InputError when a file is missing or damaged
ReportTable paperComparison(const ScoreTable& scores, const Analysis& analysis, int paperTable,
                            const std::filesystem::path& folder);

}  // namespace aimerge
