#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace aimerge {

/// Calls work(first row, rows) on ranges of rows, shared out over libtorch's threads.
template <typename Work>
void overRows(std::int64_t rows, std::int64_t elementsPerRow, const Work& work) {
    constexpr std::int64_t kElementsPerThread = 32768;
    const std::int64_t grain = std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, elementsPerRow));
    at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) { work(begin, end - begin); });
}

}  // namespace aimerge
