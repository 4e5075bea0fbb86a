#pragma once
// Where sequences stand in a layer, of all forward steps: on the device that computes, or elsewhere where that has no room
// for them.

#include "aimerge/core/file.h"
#include "aimerge/core/temporary_folder.h"
#include "aimerge/model/decoder.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace aimerge {

class LayerStates {
public:
    enum class Where { Device, HostMemory, Disk };

    /// @param count of states @param largestBytes of one
    LayerStates(std::size_t count, std::uint64_t largestBytes, Where where);

    /// Leaves nothing behind: put() comes before the next take().
    LayerState take(std::size_t number, at::Device device);
    void put(std::size_t number, LayerState state);

private:
    Where where_;
    std::uint64_t largestBytes_;
    std::vector<LayerState> states_;  // on disk: shapes and dtypes alone
    std::optional<TemporaryFolder> folder_;
    File file_;
};

}  // namespace aimerge
