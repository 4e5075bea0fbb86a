#include "aimerge/merge/adapted_weights.h"

#include "aimerge/core/error.h"
#include "aimerge/merge/tensor_source.h"
#include "merge/sources/convert.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace aimerge {
namespace {

constexpr std::size_t kStretch = std::size_t{1} << 16;  // elements that are in float32 at a time

/// @param to room for the values in dtype, one of those that can be merged
void store(std::span<const float> values, Dtype dtype, std::byte* to, const TensorSource& source) {
    if (dtype == Dtype::F64) {
        for (std::size_t i = 0; i < values.size(); ++i) {
            const double value = values[i];
            std::memcpy(to + i * sizeof value, &value, sizeof value);
        }
    } else if (fromFloat(values, dtype, to) == Finite::No) {
        throw InputError(
            "{}: with the adapter's change a value is beyond the range of {}; scale the adapter down or store "
            "the base in a wider dtype",
            source.origin(), torchName(dtype));
    }
}

}  // namespace

void AdaptedWeights::read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const {
    if (model_.updateOf(tensor) == nullptr) return model_.read(tensor, offset, out);
    const std::shared_ptr<const TensorSource> source = sourceOf(tensor);
    const std::size_t width = bytesPerElement(tensor.dtype), count = out.size() / width;
    const std::size_t most = std::min(count, kStretch);
    std::vector<std::byte> fetched(most * bytesPerElement(source->dtype()));
    std::vector<float> values(most);
    for (std::size_t done = 0; done < count;) {
        const std::size_t size = std::min(kStretch, count - done);
        const auto first = static_cast<std::int64_t>(offset / width + done);
        source->fetch(first, {fetched.data(), size * bytesPerElement(source->dtype())});
        source->convert(first, fetched.data(), {values.data(), size});
        store({values.data(), size}, tensor.dtype, out.data() + done * width, *source);
        done += size;
    }
}

std::shared_ptr<const TensorSource> AdaptedWeights::sourceOf(const TensorInfo& tensor) const {
    const std::scoped_lock lock(lastMutex_);
    if (!lastSource_ || lastName_ != tensor.name) {
        lastSource_ = directSource({&model_, &tensor});
        lastName_ = tensor.name;
    }
    return lastSource_;
}

}  // namespace aimerge
