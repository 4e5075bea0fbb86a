#pragma once
// Where every output tensor will lie: which shard file, at which bytes. Fixed before anything is written, so that any
// rank can write any part, in any order, and the files come out the same.

#include "aimerge/safetensors/safetensors.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

struct OutputTensor {
    std::string name;
    Dtype dtype = Dtype::BF16;
    Shape shape;

    std::uint64_t bytes() const { return static_cast<std::uint64_t>(elementCount(shape)) * bytesPerElement(dtype); }
};

struct OutputShard {
    std::string fileName;             // model-00001-of-00003.safetensors, or model.safetensors when there is one
    std::string header;               // 8-byte length + JSON + padding blanks: the file's first bytes, a multiple of 8
    std::vector<TensorInfo> tensors;  // fileIndex = index of this shard; bytes absolute in the file
    std::uint64_t fileBytes = 0;
};

struct ShardLayout {
    std::vector<OutputShard> shards;

    const TensorInfo& find(const std::string& name) const;  // throws std::out_of_range
    std::uint64_t totalBytes() const;                       // of tensor data: the index's metadata.total_size
    /// Text of model.safetensors.index.json; only written when there is more than one shard.
    std::string indexJson() const;
};

/// Fills shards in the given order, closing one when the next tensor would take it over `maxShardBytes` of tensor data (a
/// larger tensor gets a shard of its own). Within a shard, wider dtypes come first so that every tensor is aligned.
ShardLayout layOutShards(const std::vector<OutputTensor>& tensors, std::uint64_t maxShardBytes);

}  // namespace aimerge
