#include "model/weight_loader.h"

#include "aimerge/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace aimerge {
namespace {

constexpr std::int64_t kConversionElements = std::int64_t{1} << 20;

std::span<std::byte> bytesOf(const at::Tensor& tensor) {
    return {static_cast<std::byte*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
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
    if (!tensor) throw InputError("{}: tensor {} is missing; a Llama model has it", weights.name(), name);
    if (tensor->shape != shape)
        throw InputError("{}: tensor {} has shape {}, config.json asks for {}", weights.name(), name,
                         shapeText(tensor->shape), shapeText(shape));
    return *tensor;
}

at::Tensor loadTensor(const WeightSource& weights, const TensorInfo& tensor, at::ScalarType computeType, at::Device device) {
    const at::ScalarType storedType = floatingType(weights, tensor);
    at::Tensor result = at::empty(tensor.shape, at::TensorOptions(computeType).device(device));
    if (storedType == computeType && device.is_cpu()) {
        weights.read(tensor, 0, bytesOf(result));
        return result;
    }
    const at::Tensor flat = result.view({-1});
    at::Tensor staging;
    for (std::int64_t first = 0; first < flat.numel(); first += kConversionElements) {
        const std::int64_t count = std::min(kConversionElements, flat.numel() - first);
        // On the way to a GPU each part has pinned memory of its own, which libtorch keeps until its copy is done.
        if (!staging.defined() || !device.is_cpu())
            staging = at::empty({count}, at::TensorOptions(storedType).pinned_memory(!device.is_cpu()));
        const at::Tensor part = staging.narrow(0, 0, count);
        weights.read(tensor, static_cast<std::uint64_t>(first) * bytesPerElement(tensor.dtype), bytesOf(part));
        flat.narrow(0, first, count).copy_(part.to(device, /*non_blocking=*/true));
    }
    return result;
}

}  // namespace aimerge
