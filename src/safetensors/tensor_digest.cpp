#include "aimerge/safetensors/tensor_digest.h"

#include <algorithm>
#include <vector>

namespace aimerge {
namespace {

// Fits the second-level cache of one core beside what else is there.
constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;

}  // namespace

Digest blockDigest(const File& file, ByteRange block) {
    std::vector<std::byte> piece(std::min(kPieceBytes, block.size()));
    Hasher hasher;
    for (std::uint64_t offset = block.begin; offset < block.end;) {
        const std::span<std::byte> part(piece.data(), std::min(kPieceBytes, block.end - offset));
        file.readAt(offset, part);
        hasher.update(part);
        offset += part.size();
    }
    return hasher.digest();
}

Digest combineBlockDigests(std::span<const Digest> blocks) {
    Hasher hasher;
    for (const Digest& block : blocks) hasher.update(std::as_bytes(std::span(block.bytes)));
    return hasher.digest();
}

Digest tensorDigest(const File& file, ByteRange tensor) {
    std::vector<Digest> blocks;
    for (std::uint64_t begin = tensor.begin; begin < tensor.end; begin += kDigestBlockBytes)
        blocks.push_back(blockDigest(file, {begin, std::min(begin + kDigestBlockBytes, tensor.end)}));
    return combineBlockDigests(blocks);
}

}  // namespace aimerge
