#pragma once
// What was measured on one expert (ExpertStatistic), as a merge reads it: float32 tensors by name, in a folder of
// safetensors files or (sensitivities) in a statistics log. `<module>.gram` is the Gram matrix of a linear layer's inputs,
// stored once for the layers that share them (Architecture::moduleWithSameInput); a Fisher tensor has the name and the shape
// of its parameter.

#include "aimerge/core/file.h"
#include "aimerge/merge/tensor_source.h"
#include "aimerge/safetensors/safetensors.h"
#include "aimerge/statistics/statistics_log.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

class ExpertStatistics {
public:
    /// Reads headers only. @param model for messages @throws InputError
    static ExpertStatistics open(const std::filesystem::path& folder, std::string model);

    /// The sensitivities that a statistics log holds. @param model for messages @throws InputError also when it has none
    static ExpertStatistics ofLog(const std::filesystem::path& log, std::string model);

    /// All of them, for a statistics log; they may outlive this object.
    std::vector<SensitivityValues> values() const;

    /// The Gram matrix [in, in] of the inputs of a linear layer's weight [out, in]. Null for parameters that have none.
    /// The source may outlive this object. @param module Architecture::moduleWithSameInput() of the layer
    /// @throws InputError when it is of another size
    std::shared_ptr<const TensorSource> gramOf(const std::string& module, const Shape& shape) const;

    /// A statistic that has a value for every element of every parameter (Fisher information, sensitivity).
    /// @throws InputError when there is none for this parameter, or one of another shape
    std::shared_ptr<const TensorSource> elementsOf(const std::string& parameter, const Shape& shape) const;

private:
    struct Place {
        std::shared_ptr<const File> file;
        TensorInfo tensor;
    };
    std::shared_ptr<const TensorSource> sourceOf(const Place& place, const Shape& expected) const;

    std::string model_;
    std::map<std::string, Place> places_;
};

}  // namespace aimerge
