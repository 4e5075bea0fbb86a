#pragma once
// What a sequential calibration (aim.calibration.sequential) needs of the merge that it is part of: its layers, one by one,
// in memory.

#include "job/memory_points.h"
#include "job/merge_job.h"

#include "aimerge/calibration/calibrate.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/device/device.h"

namespace aimerge {

class JobLayers : public MergedLayers {
public:
    /// @param job must outlive the layers
    JobLayers(const MergeJob& job, int threads, const Device& device) : job_(job), threads_(threads), device_(device) {}

    std::unique_ptr<WeightSource> embedding() override;
    std::unique_ptr<WeightSource> layer(std::int64_t layer, const StatisticsByModule& statistics) override;

private:
    std::unique_ptr<WeightSource> merged(const std::vector<std::string>& names, const StatisticsByModule& statistics);

    const MergeJob& job_;
    ThreadPool threads_;
    Device device_;
    PointMemory memory_;
};

}  // namespace aimerge
