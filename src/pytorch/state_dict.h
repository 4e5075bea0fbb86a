#pragma once
// The pickle of a state dict: a dict or OrderedDict of tensors by name, in protocol 2 to 5. It is run on a machine whose
// only values are numbers, texts, tuples, dicts, storages and tensors that are mere descriptions.

#include "aimerge/core/dtype.h"
#include "aimerge/safetensors/safetensors.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

/// Storage N of the file: `elements` of a dtype.
struct PickledStorage {
    std::string key;  // "N"
    Dtype dtype = Dtype::F32;
    std::uint64_t elements = 0;
};

struct PickledTensor {
    std::string name;  // valid UTF-8
    std::size_t storage = 0;
    std::uint64_t firstElement = 0;  // in the storage; what the shape takes from here on may be more than it has
    Shape shape;                     // contiguous; its product does not overflow
};

struct StateDict {
    std::vector<PickledStorage> storages;
    std::vector<PickledTensor> tensors;  // of distinct names
};

/// Time and memory are proportional to the text, and bounded.
/// @throws InputError that begins with `fileName` and names the opcode, the class or the tensor
StateDict readStateDict(std::string_view pickle, const std::string& fileName);

}  // namespace aimerge
