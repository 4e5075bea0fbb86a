#pragma once
// A Hugging Face model folder opened for reading: config.json, the safetensors headers, and byte ranges of tensors on
// demand. Opening reads headers only. Reading is local, thread-safe and allocates nothing.

#include "aimerge/checkpoint/model_config.h"
#include "aimerge/checkpoint/safetensors.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/thread_pool.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace aimerge {

class Checkpoint {
public:
    /// @param name a folder, or `org/name` looked up in the local hub cache (HF_HOME rules, refs/main)
    /// @throws InputError: no such folder or cached model (gives the download command), no safetensors weights, bad index
    ///         (missing shard, tensor absent from its shard, path outside the folder), bad header, bad config.json
    static Checkpoint open(const std::string& name);

    const std::string& name() const { return name_; }  // as the user wrote it
    const std::filesystem::path& folder() const { return folder_; }
    const nlohmann::ordered_json& config() const { return config_; }  // config.json
    const ModelConfig& modelConfig() const { return modelConfig_; }
    const std::vector<std::filesystem::path>& files() const { return paths_; }

    /// In model order (checkpoint/parameter_name.h): embeddings, layers 0..n-1, final norm, lm_head, then the rest by name.
    const std::vector<TensorInfo>& tensors() const { return tensors_; }
    const TensorInfo* find(std::string_view name) const;

    /// Copies bytes [offset, offset + out.size()) of the tensor's data.
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const;

    /// The tensor's bytes in the mapped file, valid as long as this object.
    std::span<const std::byte> map(const TensorInfo& tensor) const;

    std::uint64_t totalBytes() const;  // of all tensors

    /// Names, sizes and modification times of the weight files: equal stamps mean that nothing was written since.
    std::string fileStamps() const;

    /// Digest of every tensor's name, dtype, shape and bytes, whatever the sharding. Reads the whole checkpoint once.
    Digest contentDigest(ThreadPool& threads) const;

    /// Digest of config.json and of the headers; cheap.
    Digest headerDigest() const;

private:
    /// Sorts tensors_ and fills byName_. @throws InputError when a name occurs twice
    void indexTensors();

    std::string name_;
    std::filesystem::path folder_;
    nlohmann::ordered_json config_;
    ModelConfig modelConfig_;
    std::vector<std::filesystem::path> paths_;
    std::vector<File> files_;
    std::vector<Mapping> mappings_;
    std::vector<TensorInfo> tensors_;
    std::unordered_map<std::string_view, std::size_t>
        byName_;  // views into tensors_, whose heap block moves with the object
};

}  // namespace aimerge
