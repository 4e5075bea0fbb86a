#pragma once
// What a sweep's journal knows beyond points.csv, for a report: the items that scores rest on, and the config of each merge.

#include "aimerge/experiment/sweep_record.h"
#include "aimerge/report/score_table.h"

namespace aimerge {

/// Adds the items and configs of the points that have the journal's scores. A row with other scores, such as one of an
/// earlier run or edited by hand, gets nothing.
void addRecorded(ScoreTable& table, const SweepJournal& journal);

}  // namespace aimerge
