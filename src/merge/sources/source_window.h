#pragma once
// One thread's window on the sources of a tensor: fetched a slab at a time into buffers that stay in the second-level cache,
// converted a chunk at a time into buffers that stay in the first.

#include "aimerge/merge/parameter_reader.h"
#include "aimerge/merge/tensor_source.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace aimerge {

class SourceWindow {
public:
    static constexpr std::int64_t kSlabElements = ParameterReader::kSpanElements;
    static constexpr std::int64_t kChunkElements = 1024;

    /// @param values one pointer per source, null where the source is
    using Visit = std::function<void(std::int64_t first, std::size_t count, std::span<const float* const> values)>;

    /// Calls visit for the chunks of [first, first + count) in ascending order. Chunks end at multiples of kChunkElements,
    /// counted from `origin`.
    /// @param sources null: not read
    void walk(std::span<const TensorSource* const> sources, std::int64_t first, std::int64_t count, const Visit& visit,
              std::int64_t origin = 0);

    /// Bytes of a window on that many sources.
    static std::uint64_t bytes(std::size_t sources) {
        return sources * static_cast<std::uint64_t>(kSlabElements * static_cast<std::int64_t>(sizeof(double)) +
                                                    kChunkElements * static_cast<std::int64_t>(sizeof(float)));
    }

private:
    std::vector<std::vector<std::byte>> slabs_;
    std::vector<std::vector<float>> chunks_;
    std::vector<const float*> values_;
};

}  // namespace aimerge
