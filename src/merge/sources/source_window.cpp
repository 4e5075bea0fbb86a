#include "merge/sources/source_window.h"

#include <algorithm>

namespace aimerge {

void SourceWindow::walk(std::span<const TensorSource* const> sources, std::int64_t first, std::int64_t count,
                        const Visit& visit, std::int64_t origin) {
    if (slabs_.size() < sources.size()) {
        slabs_.resize(sources.size());
        chunks_.resize(sources.size(), std::vector<float>(kChunkElements));
    }
    values_.assign(sources.size(), nullptr);

    const std::int64_t end = first + count;
    for (std::int64_t slab = first; slab < end; slab += kSlabElements) {
        const std::int64_t slabElements = std::min(kSlabElements, end - slab);
        for (std::size_t i = 0; i < sources.size(); ++i) {
            if (!sources[i]) continue;
            const std::size_t bytes = static_cast<std::size_t>(slabElements) * bytesPerElement(sources[i]->dtype());
            if (slabs_[i].size() < bytes) slabs_[i].resize(bytes);
            sources[i]->fetch(slab, {slabs_[i].data(), bytes});
            values_[i] = chunks_[i].data();
        }
        const std::int64_t slabEnd = slab + slabElements;
        for (std::int64_t chunk = slab; chunk < slabEnd;) {
            const std::int64_t chunkEnd =
                std::min(slabEnd, origin + ((chunk - origin) / kChunkElements + 1) * kChunkElements);
            const auto size = static_cast<std::size_t>(chunkEnd - chunk);
            for (std::size_t i = 0; i < sources.size(); ++i) {
                if (!sources[i]) continue;
                const std::size_t offset = static_cast<std::size_t>(chunk - slab) * bytesPerElement(sources[i]->dtype());
                sources[i]->convert(chunk, slabs_[i].data() + offset, {chunks_[i].data(), size});
            }
            visit(chunk, size, values_);
            chunk = chunkEnd;
        }
    }
}

}  // namespace aimerge
