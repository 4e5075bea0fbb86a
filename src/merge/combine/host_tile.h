#pragma once
// A stretch of a parameter in host memory, as a prepared parameter combines it: float32 to float32.

#include "merge/combine/for_each_element.h"

#include <vector>

namespace aimerge {

struct HostTile {
    const float* base = nullptr;  // null when there is none
    std::span<const float* const> inputs;
    std::span<float> out;
    std::size_t count = out.size();
};

template <int kInputs, typename Combine>
void forEachElement(const Combine& combine, const HostTile& tile) {
    forEachElement<kInputs>(combine, tile.base, tile.inputs, tile.out);
}

/// Calls run(part of the tile).
template <typename Run>
void withPart(const HostTile& tile, std::size_t offset, std::size_t count, const Run& run) {
    if (offset == 0 && count == tile.count) return run(tile);
    std::vector<const float*> inputs(tile.inputs.begin(), tile.inputs.end());
    for (const float*& input : inputs) input += offset;
    run(HostTile{tile.base == nullptr ? nullptr : tile.base + offset, inputs, tile.out.subspan(offset, count)});
}

}  // namespace aimerge
