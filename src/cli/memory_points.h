#pragma once
// Merged points that lie in memory instead of in files, as sources of weights: this rank's tensors alone.

#include "cli/merge_job.h"
#include "cli/merge_step.h"

#include "aimerge/checkpoint/weight_source.h"

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace aimerge {

class MemoryPoints : public PointStore {
public:
    /// Makes room for the named tensors of every point of the job.
    MemoryPoints(const MergeJob& job, const std::vector<std::string>& names);

    void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override;
    void finish(const std::string& /*tensor*/) override {}

    /// Valid as long as this object. @param name for messages
    std::unique_ptr<WeightSource> point(std::size_t number, std::string name) const;

private:
    struct Tensor {
        TensorInfo info;
        std::vector<std::unique_ptr<std::byte[]>> bytes;  // per point
    };
    class Point;

    ModelConfig config_;
    std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace aimerge
