#pragma once
// The weights of a checkpoint as a decoder reads them: where an adapter changes a tensor, its changed values, rounded to the
// dtype of the base, as PEFT's merge_and_unload would store them (merge/sources/adapted_source.h). Of a checkpoint without an
// adapter, the bytes as they stand.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/checkpoint/weight_source.h"

#include <memory>
#include <mutex>
#include <string>

namespace aimerge {

class TensorSource;

class AdaptedWeights : public WeightSource {
public:
    /// @param model must outlive the weights
    explicit AdaptedWeights(const Checkpoint& model) : model_(model) {}

    const std::string& name() const override { return model_.name(); }
    const ModelConfig& modelConfig() const override { return model_.modelConfig(); }
    const TensorInfo* find(std::string_view name) const override { return model_.find(name); }

    /// @pre of a changed tensor: offset and out.size() are those of whole elements
    /// @throws InputError naming file and tensor: a factor, or the sum, is NaN or infinite
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override;
    void startReading(const TensorInfo& tensor) const override { model_.startReading(tensor); }

private:
    std::shared_ptr<const TensorSource> sourceOf(const TensorInfo& tensor) const;

    const Checkpoint& model_;
    mutable std::mutex lastMutex_;
    mutable std::string lastName_;  // a tensor is read part by part: its factors are kept until another is read
    mutable std::shared_ptr<const TensorSource> lastSource_;
};

}  // namespace aimerge
