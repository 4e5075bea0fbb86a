#pragma once
// How fast the storage under some files is now, by reading a little of them.

#include "aimerge/core/read_ahead.h"

#include <cstdint>
#include <span>
#include <string>

namespace aimerge {

struct StorageRate {
    std::uint64_t bytes = 0;        ///< of all pieces
    std::uint64_t cachedBytes = 0;  ///< of these, in the page cache or in a file system in memory, going by samples
    double bytesPerSecond = 0;      ///< of the others; 0 where there are none

    /// Reading what is not cached takes so long.
    double seconds() const;
};

/// Reads up to 128 MiB, spread over what is not in the page cache, as a ReadAhead does. Local.
/// @throws InputError as File::readAt
StorageRate measureStorage(std::span<const PieceAhead> pieces);

/// "8.80 GB, of which 2.20 GB are in memory; the rest takes 5.4s at 1.22 GB/s, as measured now"
std::string storageText(const StorageRate& rate);

}  // namespace aimerge
