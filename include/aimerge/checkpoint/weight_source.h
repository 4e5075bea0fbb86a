#pragma once
// Where a decoder takes its weights from: a checkpoint, or a merged model that lies in memory.

#include "aimerge/architecture/model_config.h"
#include "aimerge/safetensors/safetensors.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace aimerge {

/// Local and thread-safe.
class WeightSource {
public:
    virtual ~WeightSource() = default;

    virtual const std::string& name() const = 0;  // for messages
    virtual const ModelConfig& modelConfig() const = 0;

    /// Null when there is no such tensor.
    virtual const TensorInfo* find(std::string_view name) const = 0;

    /// Copies bytes [offset, offset + out.size()) of the tensor's data.
    virtual void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const = 0;

    /// The tensor will be read soon: what lies on a disk begins to come into the page cache. Does not wait.
    virtual void startReading(const TensorInfo& /*tensor*/) const {}
};

}  // namespace aimerge
