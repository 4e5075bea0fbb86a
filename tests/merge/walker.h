#pragma once
// What runs a StridedWalk in the tests of combines (*_walk_test.cpp), which are compiled twice: strided_walk_test lets the
// host play the grid, everything of it but the device; device_test, with AIMERGE_WALK_ON_DEVICE, runs the compiled kernels.
//
// A walker has Memory, which is made from bytes and has data(); run(walk); and fetch(memory, bytes).

#include "merge/device/strided_walk.h"
#ifdef AIMERGE_WALK_ON_DEVICE
#include "merge/device/device_walk.h"
#endif

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace aimerge {

using Bytes = std::vector<std::byte>;

/// Plays the threads of a grid one after the other.
template <std::size_t kThreads>
struct HostWalker {
    using Memory = Bytes;

    template <typename Walk>
    static void run(const Walk& walk) {
        for (std::size_t thread = 0; thread < kThreads; ++thread) walk(thread, kThreads);
    }

    static void fetch(const Memory& memory, std::span<std::byte> out) { std::ranges::copy(memory, out.begin()); }
};

#ifdef AIMERGE_WALK_ON_DEVICE
struct Walker {
    using Memory = DeviceMemory;

    template <typename Walk>
    static void run(const Walk& walk) {
        forEachElementOnDevice(walk, nullptr);
    }

    static void fetch(const Memory& memory, std::span<std::byte> out) { memory.download(out); }
};
#else
using Walker = HostWalker<509>;
#endif

}  // namespace aimerge
