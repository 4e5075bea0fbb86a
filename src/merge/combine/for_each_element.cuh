#pragma once
// Walks a stretch of one parameter with a combine on the device. A method's .cu file includes its header and this one and
// names its combine:
//
//     AIMERGE_ON_DEVICE(SumCombine)
//
// Compiled with -fmad=false, and with nvcc's IEEE division and subnormals, so that the bits are the CPU's.

#include "aimerge/device/cuda_call.h"
#include "merge/device/device_walk.h"

#include <algorithm>

namespace aimerge {

template <int kInputs, typename Combine>
__global__ void walkOnDevice(const StridedWalk<kInputs, Combine> walk) {
    walk(std::size_t{blockIdx.x} * blockDim.x + threadIdx.x, std::size_t{gridDim.x} * blockDim.x);
}

template <int kInputs, typename Combine>
void forEachElementOnDevice(const StridedWalk<kInputs, Combine>& walk, CUstream_st* stream) {
    constexpr std::size_t kThreadsPerBlock = 256, kMostBlocks = 16384;
    if (walk.count == 0) return;
    const std::size_t blocks = std::min((walk.count + kThreadsPerBlock - 1) / kThreadsPerBlock, kMostBlocks);
    walkOnDevice<<<static_cast<unsigned>(blocks), static_cast<unsigned>(kThreadsPerBlock), 0, stream>>>(walk);
    checkCuda(cudaGetLastError(), "start of a merge kernel", walk.count, "elements");
}

static_assert(kMostUnrolledInputs == 8, "AIMERGE_ON_DEVICE names each number of inputs");

}  // namespace aimerge

/// Compiles a combine of exactly kInputs inputs.
#define AIMERGE_ON_DEVICE_OF(kInputs, ...) \
    template void aimerge::forEachElementOnDevice(const aimerge::StridedWalk<kInputs, __VA_ARGS__>&, CUstream_st*);

/// Compiles Combine<kInputs, further template arguments> for every number of inputs.
#define AIMERGE_ON_DEVICE(Combine, ...)                                     \
    AIMERGE_ON_DEVICE_OF(1, aimerge::Combine<1 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(2, aimerge::Combine<2 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(3, aimerge::Combine<3 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(4, aimerge::Combine<4 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(5, aimerge::Combine<5 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(6, aimerge::Combine<6 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(7, aimerge::Combine<7 __VA_OPT__(, ) __VA_ARGS__>) \
    AIMERGE_ON_DEVICE_OF(8, aimerge::Combine<8 __VA_OPT__(, ) __VA_ARGS__>)

/// For combines that take a Normalize too.
#define AIMERGE_ON_DEVICE_NORMALIZING(Combine)         \
    AIMERGE_ON_DEVICE(Combine, aimerge::Normalize::No) \
    AIMERGE_ON_DEVICE(Combine, aimerge::Normalize::Yes)
