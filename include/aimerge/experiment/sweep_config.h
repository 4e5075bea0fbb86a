#pragma once
// A sweep: every method over every combination of experts with every value of a grid and every omega, beside the base and
// the experts alone. Each merged point has the merge config that makes it by itself.

#include "aimerge/config/merge_config.h"
#include "aimerge/evaluation/evaluate.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {

enum class PointKind { Base, Expert, Merged };
std::string_view pointKindName(PointKind kind);  // "base", "expert", "merged"

struct SweepPoint {
    std::string name;  // "base", an expert's name, "ties-code+math-omega-0.4": a folder's name
    PointKind kind = PointKind::Merged;
    std::string model;                  // of base and experts: path or hub name
    std::string method, combination;    // the entry's name, "code+math"; empty for base and experts
    std::optional<double> omega;        // of merged points; 1 is the merge without AIM
    std::optional<MergeConfig> config;  // of merged points
    /// What it has of the grid, in the grid's order: "density" and "0.2", "weight_code" and "0.4", "aim_shape" and "top:0.2".
    std::vector<std::pair<std::string, std::string>> grid = {};

    const std::string* gridValue(const std::string& key) const;  // null: it has none
    bool isRelaxed() const { return omega && *omega != 1.0; }
};

enum class Keep { Checkpoints, Scores };

struct SweepConfig {
    std::string baseModel;
    std::vector<std::pair<std::string, std::string>> experts;  // name, model; in file order
    std::vector<SweepPoint> points;                            // base, experts, then method by method
    std::optional<AimConfig> aim;                              // present when a point is relaxed
    EvaluationSettings evaluation;                             // without suites nothing is scored
    std::string directory;
    Keep keep = Keep::Checkpoints;
    UnreadKeys unread;                 // once for each method: what nothing reads of the points' configs
    std::vector<std::string> remarks;  // which methods a list of the grid does not multiply
};

/// Points of a sweep, at most.
inline constexpr std::size_t kMostSweepPoints = 100'000;

/// @param overrides `--set path.to.key=value`, as for a merge
/// @throws UsageError with file, line and column: a key that is missing, unknown or of another type, a method that does not
///         exist or parameters that it does not take, an expert that does not exist, a list of the grid that no method takes,
///         two points of one name, too many points
SweepConfig parseSweepConfig(const std::string& text, const std::string& fileName,
                             const std::vector<std::string>& overrides);

/// Keys of the grid that points have: "density", "weight_code".
std::vector<std::string> gridKeysOf(const std::vector<SweepPoint>& points);

}  // namespace aimerge
