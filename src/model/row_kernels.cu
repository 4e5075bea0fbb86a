#include "aimerge/device/cuda_call.h"
#include "model/row_arithmetic.h"
#include "model/row_kernels.h"

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

/// A block per row.
template <typename Element>
__global__ void rotatePairs(Element* rows, const Rotation rotation) {
    const auto half = static_cast<unsigned>(rotation.half), pairs = static_cast<unsigned>(rotation.heads) * half;
    const std::int64_t position = blockIdx.x % rotation.length;
    const float* const cosines = rotation.cosines + position * half;
    const float* const sines = rotation.sines + position * half;
    Element* const row = rows + blockIdx.x * rotation.heads * rotation.headDim;
    for (unsigned pair = threadIdx.x; pair < pairs; pair += kThreads) {
        const unsigned head = pair / half, place = pair % half;
        Element* const first = row + head * rotation.headDim + (rotation.isInterleaved ? 2 * place : place);
        rotatePair(first[0], first[rotation.isInterleaved ? 1 : half], cosines[place], sines[place]);
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
    if (rowCount == 0) return;
    rotatePairs<<<static_cast<unsigned>(rowCount), kThreads, 0, stream>>>(rows, rotation);
    checkCuda(cudaGetLastError(), "start of a rotation's kernel", static_cast<std::size_t>(rowCount), "rows");
}

template void rmsNormOnDevice(const float*, const float*, float*, std::int64_t, std::int64_t, float, CUstream_st*);
template void rmsNormOnDevice(const Bf16*, const Bf16*, Bf16*, std::int64_t, std::int64_t, float, CUstream_st*);
template void rotateOnDevice(float*, std::int64_t, const Rotation&, CUstream_st*);
template void rotateOnDevice(Bf16*, std::int64_t, const Rotation&, CUstream_st*);

}  // namespace aimerge::kernels
