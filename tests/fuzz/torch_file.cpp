// A file of torch.save. Every tensor that passes lies in the file and is as long as its shape says.

#include "fuzz_target.h"

#include "aimerge/pytorch/torch_file.h"

#include <cstdlib>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input) {
    const File file = File::openForReading(fileOf(input, "pytorch_model.bin"));
    HeaderSource source(file);
    for (const TensorInfo& tensor : readTorchFile(source)) {
        const auto bytes = static_cast<std::uint64_t>(tensor.elements()) * bytesPerElement(tensor.dtype);
        if (tensor.bytes.end > input.size() || tensor.bytes.begin > tensor.bytes.end || tensor.bytes.size() != bytes)
            std::abort();
    }
}

}  // namespace aimerge::fuzz
