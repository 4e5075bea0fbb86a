#pragma once
// A half-open range of bytes [begin, end) in a file.

#include <cstdint>

namespace aimerge {

struct ByteRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;

    std::uint64_t size() const { return end - begin; }
    bool operator==(const ByteRange&) const = default;
};

}  // namespace aimerge
