#pragma once
// A weight file as whoever looks for its tensors reads it: a record is kept of which bytes were read and of their digest.
// From these bytes alone follows where the tensors lie. So a copy that has them and holes is read like the file, and a file
// in which they are the same has its tensors in the same places.

#include "aimerge/core/byte_range.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

class HeaderSource {
public:
    /// @pre `file` outlives this
    explicit HeaderSource(const File& file) : file_(file), fileBytes_(file.size()) {}

    std::string fileName() const { return file_.path().string(); }  // for messages
    std::uint64_t fileBytes() const { return fileBytes_; }

    /// The first 22 bytes, or what the file has. @throws InputError for a git-lfs pointer in the place of the weights
    std::string readBeginning();

    /// @throws InputError when the file is shorter
    std::string read(std::uint64_t offset, std::uint64_t bytes);

    const std::vector<ByteRange>& ranges() const { return ranges_; }  // in the order they were read; may overlap
    Digest digest() const { return hasher_.digest(); }                // of their bytes, in this order

private:
    const File& file_;
    std::uint64_t fileBytes_;
    std::vector<ByteRange> ranges_;
    Hasher hasher_;
};

}  // namespace aimerge
