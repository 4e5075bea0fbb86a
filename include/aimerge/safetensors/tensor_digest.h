#pragma once
// The digest of a tensor's bytes: XXH3-128 of the concatenated XXH3-128 digests of its 4 MiB blocks, counted from the
// tensor's first byte; the last block is what is left. So blocks can be digested by any thread, in any order, while reading
// or writing, and the result does not depend on the sharding. A tensor without bytes has the digest of nothing.

#include "aimerge/core/byte_range.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"

#include <cstdint>
#include <span>

namespace aimerge {

inline constexpr std::uint64_t kDigestBlockBytes = std::uint64_t{4} << 20;

/// Number of blocks of a tensor of `bytes` bytes.
constexpr std::uint64_t digestBlocks(std::uint64_t bytes) {
    return (bytes + kDigestBlockBytes - 1) / kDigestBlockBytes;
}

/// Digest of one block that lies in a file. Reads in small pieces, so that the bytes are digested while in cache.
Digest blockDigest(const File& file, ByteRange block);

/// The tensor's digest from those of its blocks, in order.
Digest combineBlockDigests(std::span<const Digest> blocks);

/// The digest of a tensor that lies in a file; reads it once. @throws InputError when the file is shorter
Digest tensorDigest(const File& file, ByteRange tensor);

}  // namespace aimerge
