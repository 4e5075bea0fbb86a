#pragma once
// Feature calibration as a step of a merge (calibration/featcal.h): behind the method and AIM,
// before the output is published.

#include "job/memory_points.h"
#include "job/merge_job.h"
#include "job/merge_step.h"

#include "aimerge/calibration/featcal.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/corpus/token_blocks.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job_options.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

struct FeatcalTexts {
    std::vector<TokenBlocks> blocks;  // per teacher
    std::string keys;                 // says which they are, and how they are run: part of what decides the output's bytes

    std::int64_t tokens() const;
};

/// Collective. Rank 0 encodes the teachers' texts. @pre job.featcal
FeatcalTexts provideFeatcalTexts(World& world, const JobOptions& options, const MergeJob& job);

/// The job's merged points, layer by layer in memory; where the fitted tensors go is left open.
class MergedPoints : public FeatcalTarget {
public:
    /// @param pass its store and names are of no account; must outlive the points
    MergedPoints(const MergePass& pass, int threads, const Device& device);

    std::size_t points() const override { return pass_.job.points.size(); }
    bool fits(const std::string& module) const override { return pass_.job.featcal->tensors.contains(module + ".weight"); }
    std::unique_ptr<WeightSource> embedding(std::size_t point) override;
    std::unique_ptr<WeightSource> layer(std::size_t point, std::int64_t layer) override;
    std::unique_ptr<WeightSource> exactLayer(std::size_t point, std::int64_t layer) override;

protected:
    const MergeJob& job() const { return pass_.job; }

private:
    /// Tensors of a job that are in memory, for all points.
    struct MergedPart {
        std::int64_t layer = -1;
        std::optional<MemoryPoints> points;
    };
    template <typename IsWanted>
    void merge(const std::vector<OutputTensor>& outputs, const IsWanted& isWanted, MergedPart& part);
    void mergeLayer(const std::vector<OutputTensor>& outputs, std::int64_t layer, MergedPart& part);

    const MergePass& pass_;
    ThreadPool threads_;
    Device device_;
    PointMemory memory_;
    std::vector<OutputTensor> exactOutputs_;  // in float32
    MergedPart embedding_, layer_, exactLayer_;
};

/// Into points that lie in memory, on every rank those tensors that it has.
class FittedPoints : public MergedPoints {
public:
    /// @param names of the tensors that `to` has
    FittedPoints(const MergePass& pass, int threads, const Device& device, MemoryPoints& to,
                 const std::vector<std::string>& names)
        : MergedPoints(pass, threads, device), to_(to), names_(names.begin(), names.end()) {}

    std::int64_t finishedLayers() override { return 0; }
    std::string stored(std::size_t /*point*/, const std::string& /*tensor*/) override { return {}; }
    void store(std::size_t point, const std::string& tensor, const std::string& bytes) override {
        if (names_.contains(tensor)) to_.write(point, tensor, 0, std::as_bytes(std::span(bytes)));
    }

private:
    MemoryPoints& to_;
    std::set<std::string> names_;
};

/// Collective. Fits all points of the target.
FeatcalResult runFeatcal(World& world, const JobOptions& options, const MergeJob& job, const FeatcalTexts& texts,
                         FeatcalTarget& target);

/// "fitted 210 matrices, 60 norms to 3 experts on 5376 tokens; kept their merged value: ...": of one point, for the log.
std::string featcalText(const MergeJob& job, std::int64_t tokens);
/// featcalText() for the manifest.
nlohmann::ordered_json featcalJson(const MergeJob& job, std::int64_t tokens);

/// What it takes, from headers and config alone: a line below the plan's table; empty without featcal.
std::string featcalLine(const MergeJob& job, const PlanSettings& settings);
nlohmann::ordered_json featcalPlan(const MergeJob& job, const PlanSettings& settings);

}  // namespace aimerge
