#include "aimerge/checkpoint/weight_header.h"

#include "aimerge/pytorch/torch_file.h"
#include "aimerge/safetensors/header_source.h"

namespace aimerge {

bool HeaderParts::areIn(const File& file) const {
    HeaderSource source(file);
    for (const ByteRange& range : ranges) source.read(range.begin, range.size());
    return source.digest() == digest;
}

WeightHeader readWeightHeader(const File& file) {
    HeaderSource source(file);
    std::vector<TensorInfo> tensors =
        file.path().extension() == ".safetensors" ? readSafetensorsHeader(source).tensors : readTorchFile(source);
    return {std::move(tensors), {source.ranges(), source.digest()}};
}

}  // namespace aimerge
