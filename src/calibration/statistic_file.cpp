#include "calibration/statistic_file.h"

#include "aimerge/checkpoint/shard_layout.h"
#include "aimerge/core/file.h"

#include <ATen/ATen.h>

#include <limits>
#include <span>

namespace aimerge {

void writeStatisticFile(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors) {
    std::vector<OutputTensor> outputs;
    for (const auto& [name, tensor] : tensors) outputs.push_back({name, Dtype::F32, tensor.sizes().vec()});
    const ShardLayout layout = layOutShards(outputs, std::numeric_limits<std::uint64_t>::max());
    const OutputShard& shard = layout.shards.at(0);

    File file = File::openForWriting(path);
    file.writeAt(0, std::as_bytes(std::span(shard.header)));
    for (const TensorInfo& info : shard.tensors) {
        const at::Tensor tensor = tensors.at(info.name).cpu();
        file.writeAt(info.bytes.begin, {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()});
    }
    file.sync();
}

}  // namespace aimerge
