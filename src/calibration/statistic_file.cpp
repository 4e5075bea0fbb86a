#include "calibration/statistic_file.h"

#include "aimerge/core/file.h"
#include "aimerge/safetensors/shard_layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <span>

namespace aimerge {
namespace {

/// From a GPU a part at a time, through pinned memory, which libtorch keeps for the next one.
void write(const at::Tensor& tensor, File& file, std::uint64_t offset) {
    constexpr std::int64_t kPartElements = std::int64_t{4} << 20;
    const at::Tensor flat = tensor.contiguous().view({-1});
    const std::int64_t atOnce = flat.is_cpu() ? flat.numel() : kPartElements;
    for (std::int64_t first = 0; first < flat.numel(); first += atOnce) {
        at::Tensor part = flat.narrow(0, first, std::min(atOnce, flat.numel() - first));
        if (!part.is_cpu()) {
            const at::Tensor arrived = at::empty({kPartElements}, part.options().device(at::kCPU).pinned_memory(true));
            part = arrived.narrow(0, 0, part.numel()).copy_(part);
        }
        file.writeAt(offset + static_cast<std::uint64_t>(first) * sizeof(float),
                     {static_cast<const std::byte*>(part.const_data_ptr()), part.nbytes()});
    }
}

}  // namespace

void writeStatisticFile(const std::filesystem::path& path, const std::map<std::string, at::Tensor>& tensors) {
    std::vector<OutputTensor> outputs;
    for (const auto& [name, tensor] : tensors) outputs.push_back({name, Dtype::F32, tensor.sizes().vec()});
    const ShardLayout layout = layOutShards(outputs, std::numeric_limits<std::uint64_t>::max());
    const OutputShard& shard = layout.shards.at(0);

    File file = File::openForWriting(path);
    file.writeAt(0, std::as_bytes(std::span(shard.header)));
    for (const TensorInfo& info : shard.tensors) write(tensors.at(info.name), file, info.bytes.begin);
    file.sync();
}

}  // namespace aimerge
