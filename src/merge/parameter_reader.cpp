#include "aimerge/merge/parameter_reader.h"

#include <algorithm>

namespace aimerge {

void ParameterReader::visitAll(std::span<const std::size_t> wanted, const Visit& visitChunk) {
    threads().forEach(spans(), [&](std::size_t span, int worker) {
        const std::int64_t first = static_cast<std::int64_t>(span) * kSpanElements;
        visit(first, std::min(kSpanElements, elements() - first), wanted, worker, visitChunk);
    });
}

}  // namespace aimerge
