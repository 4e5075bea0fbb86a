#include "aimerge/merge/parameter_reader.h"

#include <algorithm>
#include <numeric>

namespace aimerge {

std::vector<std::size_t> ParameterReader::allInputs() const {
    std::vector<std::size_t> all(inputs());
    std::iota(all.begin(), all.end(), std::size_t{0});
    return all;
}

void ParameterReader::visitAll(std::span<const std::size_t> wanted, const Visit& visitChunk) {
    threads().forEach(spans(), [&](std::size_t span, int worker) {
        const std::int64_t first = static_cast<std::int64_t>(span) * kSpanElements;
        visit(first, std::min(kSpanElements, elements() - first), wanted, worker, visitChunk);
    });
}

}  // namespace aimerge
