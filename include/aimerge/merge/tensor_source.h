#pragma once
// One model's tensor as a merge reads it: any stretch of it, with vocabulary rows already brought into the output's order.
// Reading is by pread into the caller's buffer: over files in the page cache that took 1.4 CPU seconds for 4 x 2.2 GB of
// BF16 where mapping them took 1.6 (2 threads, 128 KiB at a time), because the hardware prefetcher stops at the end of each
// page of a mapping and the kernel's copy does not.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/dtype.h"
#include "aimerge/vocabulary/row_map.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

class TensorSource {
public:
    /// @param origin what messages call it: "expert_a: lm_head.weight"
    TensorSource(std::string origin, Dtype dtype) : origin_(std::move(origin)), dtype_(dtype) {}
    virtual ~TensorSource() = default;
    TensorSource(const TensorSource&) = delete;
    TensorSource& operator=(const TensorSource&) = delete;

    const std::string& origin() const { return origin_; }
    Dtype dtype() const { return dtype_; }  // of what fetch() delivers

    /// Copies elements [first, first + out.size() / bytesPerElement(dtype())). Thread-safe. Values are not looked at.
    /// @throws InputError when the file cannot be read
    virtual void fetch(std::int64_t first, std::span<std::byte> out) const = 0;

    /// Converts to float32. @param first the first element's number, for messages
    /// @throws InputError naming the element: NaN, infinity, or a float64 beyond float32
    void convert(std::int64_t first, const std::byte* fetched, std::span<float> out) const;

    /// Elements [first, first + count), fetched and converted.
    std::vector<float> values(std::int64_t first, std::size_t count) const;

private:
    std::string origin_;
    Dtype dtype_;
};

/// A tensor of an open checkpoint. Both must outlive what is made of it.
struct InputView {
    const Checkpoint* model = nullptr;
    const TensorInfo* tensor = nullptr;

    std::string origin() const { return model->name() + ": " + tensor->name; }
};

/// The tensor as it stands, or as the model's adapter changes it.
/// @pre isMergeable(view.tensor->dtype)
std::shared_ptr<const TensorSource> directSource(const InputView& view);

/// Rows put together from several models' tensors as `map` says, in float32. Computes the padding row (one pass over them)
/// when there is one.
/// @param owner which of the views the map describes; @param views of all models, as the map numbers them
/// @param map is not needed afterwards
std::shared_ptr<const TensorSource> alignedSource(std::size_t owner, std::vector<InputView> views, const RowMap& map);

}  // namespace aimerge
