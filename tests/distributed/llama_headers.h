#pragma once
// A Llama model folder that holds headers alone: config.json, and shards whose data is a hole in the file. Enough to plan
// with.

#include "aimerge/safetensors/shard_layout.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

struct LlamaShape {
    std::int64_t hidden, layers, heads, keyValueHeads, intermediate, vocabulary;
    bool tied = false;
};

inline constexpr LlamaShape kLlama2With13B{5120, 40, 40, 40, 13824, 32000};

/// The parameters, in the order of their creation.
std::vector<OutputTensor> llamaTensors(const LlamaShape& shape, Dtype dtype);

/// Writes config.json and shards of at most `maxShardBytes`, with an index when there are several.
void writeHeadersOnly(const std::filesystem::path& folder, const LlamaShape& shape, Dtype dtype,
                      std::uint64_t maxShardBytes);

}  // namespace aimerge
