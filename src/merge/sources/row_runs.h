#pragma once
// A stretch of a parameter, cut where a row of its matrix ends.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace aimerge {

/// Calls run(row, column, offset, count) for the parts of elements [first, first + count) that lie in one row each: `count`
/// elements from `column` on, `offset` elements behind the first.
template <typename Run>
void forEachRowRun(std::int64_t first, std::size_t count, std::int64_t columns, const Run& run) {
    std::int64_t row = first / columns, column = first % columns;
    for (std::size_t offset = 0; offset < count; ++row, column = 0) {
        const std::size_t part = std::min(static_cast<std::size_t>(columns - column), count - offset);
        run(row, column, offset, part);
        offset += part;
    }
}

}  // namespace aimerge
