#pragma once
// A merge that is held in memory and asked, instead of written: the ground of a search for the best parameters. One rank.

#include "aimerge/job/job.h"
#include "aimerge/safetensors/shard_layout.h"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

class World;

/// Tensors are merged when they are first asked for, and kept. Not thread-safe; its functions throw what those of job.h do.
class HeldMerge {
public:
    /// Reads headers, and statistics where the config needs them; no weights yet. @param world must outlive it
    /// @throws UsageError also for what needs files between its steps: several documents or values of omega, featcal,
    ///         aim.calibration.sequential
    HeldMerge(World& world, JobOptions options, ConfigText config);
    ~HeldMerge();
    HeldMerge(const HeldMerge&) = delete;

    /// Other parameters, as --set gives them, in the place of those of the last call. What they do not change is kept: the
    /// tensors whose parameters stay, and the statistics as long as only `parameters`, `models.N.parameters` and `aim.omega`
    /// are set. When it throws, all is as before.
    void set(const std::vector<std::string>& overrides);

    /// Who hears of progress from now on.
    void reportTo(ProgressListener listener);

    /// Those of the merged model, in its order.
    const std::vector<OutputTensor>& tensors() const;

    /// The tensor's bytes, in its dtype and order of elements (row-major). They stay as they are after set().
    /// @throws UsageError when there is no such tensor
    std::shared_ptr<const std::byte[]> tensor(const std::string& name);

    /// Merges what is not merged yet, and scores the model. Suites that have been scored before are not read again.
    EvaluationOutcome evaluate(const EvaluationSettings& settings);

    /// Writes what merge() would write, from the models.
    MergeResult save(const std::string& out, bool overwrite);

    /// How many tensors have been merged so far, those again that set() has changed.
    std::size_t mergedTensors() const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace aimerge
