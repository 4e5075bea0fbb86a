// The JSON header of a safetensors file. What passes keeps the promises that reading by it depends on.

#include "fuzz_target.h"

#include "aimerge/safetensors/safetensors.h"

#include <cstdlib>
#include <cstring>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    std::uint64_t dataBytes = 0;  // the input begins with it, so that offsets can fit
    if (input.size() < sizeof dataBytes) return;
    std::memcpy(&dataBytes, input.data(), sizeof dataBytes);
    input.remove_prefix(sizeof dataBytes);
    const SafetensorsHeader header = parseSafetensorsHeader(input, dataBytes, "model.safetensors");
    std::uint64_t end = header.dataBegin;
    for (const TensorInfo& tensor : header.tensors) {
        const auto elements = static_cast<std::uint64_t>(tensor.elements());
        const std::uint64_t bits = bitsPerElement(tensor.dtype), bytes = elements / 8 * bits + elements % 8 * bits / 8;
        if (tensor.bytes.begin != end || tensor.bytes.size() != bytes) std::abort();
        end = tensor.bytes.end;
    }
    if (end - header.dataBegin != dataBytes) std::abort();
}

}  // namespace aimerge::fuzz
