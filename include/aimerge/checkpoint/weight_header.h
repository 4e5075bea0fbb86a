#pragma once
// What a weight file, of safetensors or of torch.save, says about its tensors.

#include "aimerge/core/byte_range.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/safetensors/safetensors.h"

#include <vector>

namespace aimerge {

/// The parts of a file that say where its tensors lie. A copy with these parts and holes has them in the same places.
struct HeaderParts {
    std::vector<ByteRange> ranges;  // as they are read; may overlap
    Digest digest;                  // of their bytes, when they were read

    bool areIn(const File& file) const;
};

struct WeightHeader {
    std::vector<TensorInfo> tensors;  // in file order of their bytes; places in this file
    HeaderParts parts;
};

/// Reads it by what the file is called: *.safetensors, or what torch.save writes.
/// @throws InputError what readSafetensorsHeader() or readTorchFile() throws
WeightHeader readWeightHeader(const File& file);

}  // namespace aimerge
