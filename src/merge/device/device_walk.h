#pragma once
// Runs a StridedWalk on the device, without CUDA's headers. Built with AIMERGE_CUDA.

#include "aimerge/device/cuda_memory.h"
#include "merge/device/strided_walk.h"

namespace aimerge {

/// Queues the walk. Defined for the combines that a .cu file names, with 1 to kMostUnrolledInputs inputs, whose coefficients
/// travel by value. Pointers of a combine are to device memory.
/// @param stream null: CUDA's default one
/// @throws RuntimeFault when the kernel cannot be started
template <int kInputs, typename Combine>
void forEachElementOnDevice(const StridedWalk<kInputs, Combine>& walk, CUstream_st* stream);

}  // namespace aimerge
