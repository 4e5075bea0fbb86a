#include "aimerge/safetensors/shard_layout.h"

#include "aimerge/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <set>
#include <stdexcept>

namespace aimerge {
namespace {

// Multiple of the widest dtype, so that the data of a shard starts aligned for any tensor.
constexpr std::size_t kHeaderAlignment = 8;

/// Groups of tensors, one per shard, in the given order.
std::vector<std::vector<OutputTensor>> fillShards(const std::vector<OutputTensor>& tensors, std::uint64_t maxShardBytes) {
    std::vector<std::vector<OutputTensor>> groups;
    std::uint64_t groupBytes = 0;
    for (const OutputTensor& tensor : tensors) {
        if (groups.empty() || groupBytes + tensor.bytes() > maxShardBytes) {
            if (groups.empty() || !groups.back().empty()) groups.emplace_back();
            groupBytes = 0;
        }
        groups.back().push_back(tensor);
        groupBytes += tensor.bytes();
    }
    return groups;
}

std::string headerBytes(const nlohmann::ordered_json& header) {
    std::string json = header.dump();
    json.resize((json.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
    std::string length(8, '\0');
    for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<char>(std::uint64_t{json.size()} >> (8 * i));
    return length + json;
}

OutputShard layOutShard(std::string fileName, std::size_t fileIndex, std::vector<OutputTensor> tensors) {
    std::stable_sort(tensors.begin(), tensors.end(), [](const OutputTensor& a, const OutputTensor& b) {
        return bytesPerElement(a.dtype) > bytesPerElement(b.dtype);
    });
    nlohmann::ordered_json header;
    header["__metadata__"] = {{"format", "pt"}};
    std::uint64_t dataBytes = 0;
    for (const OutputTensor& tensor : tensors) {
        nlohmann::ordered_json& entry = header[tensor.name];
        entry["dtype"] = safetensorsName(tensor.dtype);
        entry["shape"] = tensor.shape;
        entry["data_offsets"] = {dataBytes, dataBytes + tensor.bytes()};
        dataBytes += tensor.bytes();
    }

    OutputShard shard{std::move(fileName), headerBytes(header), {}, 0};
    shard.fileBytes = shard.header.size() + dataBytes;
    std::uint64_t position = shard.header.size();
    for (OutputTensor& tensor : tensors) {
        const ByteRange bytes{position, position + tensor.bytes()};
        shard.tensors.push_back({std::move(tensor.name), tensor.dtype, std::move(tensor.shape), fileIndex, bytes});
        position = bytes.end;
    }
    return shard;
}

}  // namespace

ShardLayout layOutShards(const std::vector<OutputTensor>& tensors, std::uint64_t maxShardBytes) {
    if (tensors.empty()) throw std::logic_error("layOutShards: no tensors");
    if (maxShardBytes == 0) throw UsageError("--max-shard-size is 0; give a size such as 5GB");
    std::set<std::string_view> names;
    for (const OutputTensor& tensor : tensors) {
        if (!names.insert(tensor.name).second) throw std::logic_error("layOutShards: two tensors named " + tensor.name);
    }

    std::vector<std::vector<OutputTensor>> groups = fillShards(tensors, maxShardBytes);
    ShardLayout layout;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        std::string fileName =
            groups.size() == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, groups.size());
        layout.shards.push_back(layOutShard(std::move(fileName), i, std::move(groups[i])));
    }
    return layout;
}

const TensorInfo& ShardLayout::find(const std::string& name) const {
    for (const OutputShard& shard : shards) {
        for (const TensorInfo& tensor : shard.tensors) {
            if (tensor.name == name) return tensor;
        }
    }
    throw std::out_of_range("no output tensor named " + name);
}

std::uint64_t ShardLayout::totalBytes() const {
    std::uint64_t total = 0;
    for (const OutputShard& shard : shards) total += shard.fileBytes - shard.header.size();
    return total;
}

std::string ShardLayout::indexJson() const {
    nlohmann::json index;  // keys sorted, ASCII only, two blanks: the bytes transformers writes
    index["metadata"]["total_size"] = totalBytes();
    index["weight_map"] = nlohmann::json::object();
    for (const OutputShard& shard : shards) {
        for (const TensorInfo& tensor : shard.tensors) index["weight_map"][tensor.name] = shard.fileName;
    }
    return index.dump(2, ' ', true) + "\n";
}

}  // namespace aimerge
