#pragma once
// Whole jobs as functions: what the command line, the Python package and docs/examples call. Requests and results are values,
// errors are aimerge::Error by kind (core/error.h), progress and what is shown go to JobOptions.
//
// Every function here is collective: each rank of `world` calls it with the same options and gets a result; what is said to
// be on rank 0 is empty elsewhere. With World::alone() there is one rank. A job may be run on any thread, several at a time,
// each with a World of its own. They throw UsageError for a config or options, InputError for models and files,
// RuntimeFault for what fails while running, Interrupted after a signal or StopRequest::ask() (what is finished is kept: the
// same call goes on from there), PeerFailed when another rank has failed.

#include "aimerge/config/merge_config.h"
#include "aimerge/evaluation/evaluate.h"
#include "aimerge/experiment/sweep_config.h"
#include "aimerge/job/job_options.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

class World;

/// A config, on rank 0.
struct ConfigText {
    std::string text;     // YAML, of one document or several
    std::string name;     // what messages call it: its file, "aimerge relax"
    bool isMade = false;  // by arguments in the place of a file: it is shown
    std::string remark;   // said when the config is good; empty = nothing
};

struct MergedCheckpoint {
    std::filesystem::path folder;
    std::optional<double> omega;  // where AIM has one for the whole model
};

struct MergeResult {
    std::vector<MergedCheckpoint> checkpoints;  // in the order of the config; empty after a dry run
    std::uint64_t bytes = 0;                    // of each
    double seconds = 0;                         // of the last document
    std::optional<std::string> coverage;        // JSON: what AIM has relaxed; on rank 0, if this run has merged it
};

/// Merges all documents of a config, the last one into options.out (docs/architecture.md, "A merge, step by step").
/// Nothing is published that is not complete.
MergeResult merge(World& world, const JobOptions& options, const ConfigText& config);

/// A machine that a plan is for, and how many ranks of it.
struct PlanRequest {
    int ranks = 0;         // 0 = those of `world`, or of the hardware
    std::string hardware;  // a name, or a YAML file as those of configs/hardware; empty = this machine
};

/// A document's plan, on rank 0.
struct PlannedMerge {
    nlohmann::ordered_json json;
    std::string table;
};

/// From headers and config alone. A document whose models are made by earlier ones has no plan.
std::vector<PlannedMerge> plan(World& world, const JobOptions& options, const ConfigText& config,
                               const PlanRequest& request);

/// Where the statistics of a log come from: this job; an earlier one, by the cache; the log itself, which was there already.
enum class CalibrationSource { Measured, Cached, Present };

/// Measures the activation statistics of a config's base into options.out (HDF5), and the sensitivity of its parameters where
/// AIM uses it. @return on rank 0; nothing after a dry run
std::optional<CalibrationSource> calibrate(World& world, const JobOptions& options, const ConfigText& config);

/// On rank 0.
struct EvaluationOutcome {
    std::vector<TaskScore> tasks;
    std::vector<nlohmann::ordered_json> samples;  // an object for each item, as evaluate --samples writes them
    std::size_t items = 0;
    std::int64_t tokens = 0;
    double seconds = 0;  // of the model's pass
};

/// Scores a checkpoint: a folder, or org/name of the local hub cache.
EvaluationOutcome evaluate(World& world, const JobOptions& options, const std::string& model,
                           const EvaluationSettings& settings);

/// A sweep's config, parsed and checked. On every rank.
SweepConfig openSweep(World& world, const JobOptions& options, const ConfigText& config);

struct SweepOutcome {
    std::string table;       // of scores, or of what a dry run would do; on rank 0
    std::size_t failed = 0;  // points that this job could not make, or in a dry run that could not be made; on rank 0
    std::size_t tried = 0;
};

/// Merges and scores the points that are not done yet, into the sweep's folder; points.csv there has all of them. Failed
/// points do not end the sweep. @param only conditions on points: "method=ties,omega=0.4"
SweepOutcome sweep(World& world, const JobOptions& options, const SweepConfig& config, const std::vector<std::string>& only);

/// Local. What a checkpoint (folder or hub name) or a statistics log (.h5) holds: tensors, shards, structure, modules.
nlohmann::ordered_json describe(const std::string& path);

}  // namespace aimerge
