#pragma once
// CUDA's return values as exceptions. The message is put together in cuda_memory.cpp: nvcc does not compile fmt's checked
// strings.

#include <cuda_runtime_api.h>

#include <cstddef>

namespace aimerge {

/// @param call, size, unit for the message: "cudaMalloc of 4096 bytes failed: out of memory (cudaErrorMemoryAllocation)"
/// @throws RuntimeFault
void checkCuda(cudaError_t result, const char* call, std::size_t size, const char* unit);

}  // namespace aimerge
