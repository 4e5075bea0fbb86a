#pragma once
// The safetensors container: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without holes.
// parseSafetensorsHeader checks every rule of the format, because a merge must not read one byte past what a file promises.

#include "aimerge/core/byte_range.h"
#include "aimerge/core/dtype.h"
#include "aimerge/core/file.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

class HeaderSource;

using Shape = std::vector<std::int64_t>;

/// Product of the dimensions; 1 for a scalar.
std::int64_t elementCount(const Shape& shape);
std::string shapeText(const Shape& shape);  // "[64, 160]"

/// One tensor of a file. `bytes` are absolute positions in that file.
struct TensorInfo {
    std::string name;
    Dtype dtype = Dtype::F32;
    Shape shape;
    std::size_t fileIndex = 0;  // which of Checkpoint::files()
    ByteRange bytes;

    std::int64_t elements() const { return elementCount(shape); }
};

struct SafetensorsHeader {
    std::vector<TensorInfo> tensors;  // in file order of their bytes
    std::map<std::string, std::string> metadata;
    std::uint64_t dataBegin = 0;  // absolute
};

/// Largest header accepted, as in the reference implementation: 100 MB.
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

/// As many dimensions as torch tensors may have.
inline constexpr std::size_t kMaxDimensions = 64;

/// Reads and validates the header of one file (length, JSON, duplicate keys, dtype, shape x dtype = bytes, offsets in
/// bounds, no overlap, no hole, file size). A git-lfs pointer file is recognised by its text.
/// @throws InputError naming file and tensor
SafetensorsHeader readSafetensorsHeader(HeaderSource& source);
SafetensorsHeader readSafetensorsHeader(const File& file);
SafetensorsHeader readSafetensorsHeader(const std::filesystem::path& path);

/// Parses header text in memory; `dataBytes` follow it in the file; `fileName` is for messages.
SafetensorsHeader parseSafetensorsHeader(std::string_view json, std::uint64_t dataBytes, const std::string& fileName);

}  // namespace aimerge
