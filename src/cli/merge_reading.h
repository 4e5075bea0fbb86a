#pragma once
// What merges will read, in their order: for a ReadAhead.

#include "cli/merge_step.h"

#include "aimerge/core/read_ahead.h"

#include <cstddef>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aimerge {

struct MergeReading {
    /// Of one tensor in one pass, in `pieces`.
    struct Range {
        std::size_t begin = 0, end = 0;
    };
    using ByName = std::unordered_map<std::string_view, Range>;

    std::vector<PieceAhead> pieces;
    std::vector<std::size_t> ends;  // of every batch, in `pieces`
    std::vector<ByName> ranges;     // per pass, by the tensor's name
};

/// @param batches of tensors, each as it is merged: for every pass indices of its job's tensors
MergeReading readingOf(std::span<const MergePass> passes, const std::vector<std::vector<std::vector<std::size_t>>>& batches);

}  // namespace aimerge
