#include "device/cuda_call.h"
#include "model/row_arithmetic.h"
#include "model/row_kernels.h"

#include <algorithm>

namespace aimerge::kernels {
namespace {

constexpr int kThreads = 256;

/// A block per row: partial sums of each thread's channels, then a tree over the threads.
template <typename Element>
__global__ void rmsNormRows(const Element* x, const Element* weight, Element* out, std::int64_t channels, float eps) {
    __shared__ float sums[kThreads];
    x += blockIdx.x * channels;
    out += blockIdx.x * channels;
    float sum = 0;
    for (std::int64_t c = threadIdx.x; c < channels; c += kThreads) {
        const float value = widen(x[c]);
        sum += value * value;
    }
    sums[threadIdx.x] = sum;
    for (int width = kThreads / 2; width > 0; width /= 2) {
        __syncthreads();
        if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
    }
    __syncthreads();
    const float scale = 1.0f / sqrtf(sums[0] / static_cast<float>(channels) + eps);
    for (std::int64_t c = threadIdx.x; c < channels; c += kThreads) out[c] = normalised(x[c], weight[c], scale);
}

template <typename Element>
__global__ void rotatePairs(Element* rows, std::int64_t pairs, const Rotation rotation) {
    const std::int64_t half = rotation.half;
    for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < pairs;
         i += std::int64_t{gridDim.x} * blockDim.x) {
        const std::int64_t place = i % half, head = i / half, position = head / rotation.heads % rotation.length;
        Element* const first = rows + head * rotation.headDim + place;
        rotatePair(first[0], first[half], rotation.cosines[position * half + place],
                   rotation.sines[position * half + place]);
    }
}

}  // namespace

template <typename Element>
void rmsNormOnDevice(const Element* x, const Element* weight, Element* out, std::int64_t rows, std::int64_t channels,
                     float eps, CUstream_st* stream) {
    if (rows == 0) return;
    rmsNormRows<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, out, channels, eps);
    checkCuda(cudaGetLastError(), "start of a norm's kernel", static_cast<std::size_t>(rows), "rows");
}

template <typename Element>
void rotateOnDevice(Element* rows, std::int64_t rowCount, const Rotation& rotation, CUstream_st* stream) {
    constexpr std::int64_t kMostBlocks = 16384;
    const std::int64_t pairs = rowCount * rotation.heads * rotation.half;
    if (pairs == 0) return;
    const auto blocks = static_cast<unsigned>(std::min((pairs + kThreads - 1) / kThreads, kMostBlocks));
    rotatePairs<<<blocks, kThreads, 0, stream>>>(rows, pairs, rotation);
    checkCuda(cudaGetLastError(), "start of a rotation's kernel", static_cast<std::size_t>(rowCount), "rows");
}

template void rmsNormOnDevice(const float*, const float*, float*, std::int64_t, std::int64_t, float, CUstream_st*);
template void rmsNormOnDevice(const Bf16*, const Bf16*, Bf16*, std::int64_t, std::int64_t, float, CUstream_st*);
template void rotateOnDevice(float*, std::int64_t, const Rotation&, CUstream_st*);
template void rotateOnDevice(Bf16*, std::int64_t, const Rotation&, CUstream_st*);

}  // namespace aimerge::kernels
