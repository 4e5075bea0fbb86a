#include "aimerge/model/weight_loader.h"

#include "aimerge/core/error.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace aimerge {
namespace {

constexpr std::int64_t kPartElements = std::int64_t{1} << 20;
constexpr int kMostPartsAtOnce = 16;

/// Elements from `first` on, a part per thread.
void read(const WeightSource& weights, const TensorInfo& tensor, std::int64_t first, const at::Tensor& into) {
    auto* const out = static_cast<std::byte*>(into.data_ptr());
    const auto elementBytes = static_cast<std::int64_t>(bytesPerElement(tensor.dtype));
    const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements * elementBytes); };
    const std::int64_t count = into.numel(), parts = (count + kPartElements - 1) / kPartElements;
    at::parallel_for(0, parts, 1, [&](std::int64_t begin, std::int64_t end) {
        const std::int64_t from = begin * kPartElements, to = std::min(end * kPartElements, count);
        weights.read(tensor, bytes(first + from), {out + bytes(from), bytes(to - from)});
    });
}

}  // namespace

at::ScalarType floatingType(const WeightSource& weights, const TensorInfo& tensor) {
    switch (tensor.dtype) {
        case Dtype::BF16:
            return at::kBFloat16;
        case Dtype::F16:
            return at::kHalf;
        case Dtype::F32:
            return at::kFloat;
        case Dtype::F64:
            return at::kDouble;
        default:
            throw InputError("{}: tensor {} is {}; running the model takes BF16, F16, F32 or F64 weights", weights.name(),
                             tensor.name, safetensorsName(tensor.dtype));
    }
}

const TensorInfo& requireTensor(const WeightSource& weights, const std::string& name, const Shape& shape) {
    const TensorInfo* tensor = weights.find(name);
    if (!tensor)
        throw InputError("{}: tensor {} is missing, which the decoder of this model_type reads", weights.name(), name);
    if (tensor->shape != shape)
        throw InputError("{}: tensor {} has shape {}, config.json asks for {}", weights.name(), name,
                         shapeText(tensor->shape), shapeText(shape));
    return *tensor;
}

at::Tensor loadTensor(const WeightSource& weights, const TensorInfo& tensor, at::ScalarType computeType, at::Device device) {
    const at::ScalarType storedType = floatingType(weights, tensor);
    at::Tensor result = at::empty(tensor.shape, at::TensorOptions(computeType).device(device));
    const at::Tensor flat = result.view({-1});
    if (storedType == computeType && device.is_cpu()) {
        read(weights, tensor, 0, flat);
        return result;
    }
    const std::int64_t elementsAtOnce = kPartElements * std::min(at::get_num_threads(), kMostPartsAtOnce);
    at::Tensor staging;
    for (std::int64_t first = 0; first < flat.numel(); first += elementsAtOnce) {
        const std::int64_t count = std::min(elementsAtOnce, flat.numel() - first);
        // On the way to a GPU it is pinned memory, anew each time: libtorch keeps it until its copy is done.
        if (!staging.defined() || !device.is_cpu())
            staging = at::empty({count}, at::TensorOptions(storedType).pinned_memory(!device.is_cpu()));
        const at::Tensor parts = staging.narrow(0, 0, count);
        read(weights, tensor, first, parts);
        const bool converts = storedType != computeType;
        flat.narrow(0, first, count)
            .copy_(converts ? parts.to(device, /*non_blocking=*/true) : parts, /*non_blocking=*/true);
    }
    return result;
}

}  // namespace aimerge
