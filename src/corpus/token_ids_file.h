#pragma once
// Ready token ids: a .safetensors file with the tensor `input_ids`, or a .npy file (format 1, 2 or 3, little-endian, C
// order); int64 or int32, [blocks, length].

#include "aimerge/corpus/token_blocks.h"

#include <cstdint>
#include <filesystem>

namespace aimerge {

/// @param vocabSize ids must lie in [0, vocabSize)
/// @throws InputError naming the file and what it has instead, or the block and position of the first bad id
TokenBlocks readTokenIds(const std::filesystem::path& path, std::int64_t vocabSize);

}  // namespace aimerge
