#pragma once
// What merges will read, in their order: for a ReadAhead.

#include "job/merge_step.h"

#include "aimerge/core/read_ahead.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aimerge {

/// Tensors as they are merged: of every batch and pass indices of the job's tensors.
using Batches = std::vector<std::vector<std::vector<std::size_t>>>;

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

/// @param memory to read ahead in: what is read several times stays there if it fits, with what is prepared beside it
MergeReading readingOf(std::span<const MergePass> passes, const Batches& batches, std::uint64_t memory, int threads);

}  // namespace aimerge
