#pragma once
// Merged points that lie in memory instead of in files, as sources of weights: this rank's tensors alone.

#include "job/merge_job.h"
#include "job/merge_step.h"

#include "aimerge/checkpoint/weight_source.h"

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

/// What the merged model computes: of the config.json that the job writes.
ModelConfig mergedModelConfig(const MergeJob& job);

/// Memory of points that are gone, for those that come: to get new pages costs more than to write to them.
class PointMemory {
public:
    using Bytes = std::unique_ptr<std::byte[]>;

    Bytes take(std::uint64_t size);
    void giveBack(std::uint64_t size, Bytes bytes) { free_.emplace(size, std::move(bytes)); }

private:
    std::multimap<std::uint64_t, Bytes> free_;
};

class MemoryPoints : public PointStore {
public:
    /// Makes room for the named tensors of every point of the job. @param memory must outlive the points
    MemoryPoints(const MergeJob& job, const std::vector<std::string>& names, PointMemory& memory)
        : MemoryPoints(job, job.outputs, names, memory) {}
    /// With other outputs in the place of the job's.
    MemoryPoints(const MergeJob& job, const std::vector<OutputTensor>& outputs, const std::vector<std::string>& names,
                 PointMemory& memory);
    MemoryPoints(MemoryPoints&&) = default;
    ~MemoryPoints() override;

    void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override;
    void finish(const std::string& /*tensor*/) override {}

    /// Valid as long as this object. @param name for messages
    std::unique_ptr<WeightSource> point(std::size_t number, std::string name) const;

private:
    struct Tensor {
        TensorInfo info;
        std::vector<PointMemory::Bytes> bytes;  // per point
    };
    class Point;

    PointMemory& memory_;
    ModelConfig config_;
    std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace aimerge
