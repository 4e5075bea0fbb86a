#pragma once
// `aimerge verify`: is a checkpoint folder whole and unchanged? Damage is data, not an exception:
// all of it is found and named.

#include "aimerge/core/byte_range.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

struct Finding {
    std::string file;                // relative to the folder
    std::string tensor;              // empty when it concerns the whole file
    std::optional<ByteRange> bytes;  // where in the file, when known
    std::string text;                // one line, with file, tensor and what to do
};

struct VerifyReport {
    std::vector<Finding> findings;                    // damage; empty = whole
    std::vector<std::string> notices;                 // worth knowing, no damage: files nobody listed, no manifest
    std::uint64_t files = 0, tensors = 0, bytes = 0;  // checked

    bool whole() const { return findings.empty(); }
};

/// With a manifest: its own checksum, then every file's presence, size and checksum (shards: header and each tensor), the
/// format's rules, the index, no *.safetensors beyond those listed (loaders read them all), and that config.json says of
/// tied embeddings what the tensors say. Without one (made by another tool): the format's rules and the index. A folder of
/// omega-* folders is verified as all of them.
/// @pre threads >= 1
/// @throws InputError when `folder` is no folder or holds no checkpoint
VerifyReport verify(const std::filesystem::path& folder, int threads);

}  // namespace aimerge
