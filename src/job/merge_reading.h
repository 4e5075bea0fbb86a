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

/// Output bytes of a batch, after which signals and the other ranks are looked at: well under a second of work.
inline constexpr std::uint64_t kBatchBytes = std::uint64_t{256} << 20;

struct MergeReading {
    /// One tensor's pieces in one pass.
    struct Range {
        std::size_t begin = 0, end = 0;
        bool endsWithOnePass = false;  // InputReading's
    };
    using ByName = std::unordered_map<std::string_view, Range>;

    std::vector<PieceAhead> pieces;
    std::vector<std::size_t> ends;  // of every batch, in `pieces`
    std::vector<ByName> ranges;     // per pass, by the tensor's name
};

/// All tensors of all models.
std::uint64_t bytesOf(const ModelSet& models);

/// Memory in which stays what the job reads several times, so that it is read from the disk once; besides what else is on its
/// way. Tensors that would need more than `most` are left out.
/// @param passes over the same models; the job is the first one's
std::uint64_t memoryToReadOnce(const MergeJob& job, std::size_t passes, int threads, std::uint64_t most);

/// @param memory to read ahead in: what is read several times stays there if it fits, with what is prepared beside it
MergeReading readingOf(std::span<const MergePass> passes, const Batches& batches, std::uint64_t memory, int threads);

}  // namespace aimerge
