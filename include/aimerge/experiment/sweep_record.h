#pragma once
// What a sweep has found out so far: a journal of finished points that a later run goes on from, and the table made of it.

#include "aimerge/core/file.h"
#include "aimerge/evaluation/scores.h"
#include "aimerge/experiment/sweep_config.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

enum class PointStatus { Pending, Done, Failed };
std::string_view pointStatusName(PointStatus status);  // "pending", "done", "failed"

struct PointResult {
    std::string key;  // digest of everything that decides the result
    PointStatus status = PointStatus::Pending;
    double seconds = 0;
    std::string error;              // of a failed point
    std::vector<TaskScore> scores;  // of a scored one
    std::string scoredBy;           // "aimerge float32"
    std::string config = {};        // of a merged point: the merge config that makes it, as YAML
};

/// `journal` in the sweep's folder: a line of JSON per finished point, the last one of a point counts. A torn line counts
/// for nothing. Several jobs may write to it.
class SweepJournal {
public:
    enum class Use { Read, Write };

    /// Reads what is there; record() takes Use::Write. Local to rank 0.
    explicit SweepJournal(const std::filesystem::path& folder, Use use = Use::Write);

    /// The point's result, when it was found under this key; nullptr else.
    const PointResult* find(const std::string& point, const std::string& key) const;

    /// By point, the last of each.
    const std::map<std::string, PointResult>& results() const { return results_; }

    /// Reads what other jobs have written meanwhile.
    void refresh();

    /// Synced before it returns.
    void record(const std::string& point, const PointResult& result);

private:
    std::filesystem::path path_;
    File file_;                    // to write to
    std::uint64_t readBytes_ = 0;  // whole lines
    std::map<std::string, PointResult> results_;
};

/// The column in points.csv and its value there: 0 to 100, or a perplexity.
std::string columnName(const TaskScore& score);
double shownValue(const TaskScore& score);

/// The text of points.csv: model, kind, method, combination, omega, aim, status, seconds, error, scored_by, `grid:KEY` for
/// each key of the grid, then a column per task: 0 to 100, a perplexity as `TASK:ppl`.
std::string pointsCsv(const std::vector<SweepPoint>& points, const std::vector<PointResult>& results);

/// The scores as they are shown on a terminal.
std::string pointsTable(const std::vector<SweepPoint>& points, const std::vector<PointResult>& results);

}  // namespace aimerge
