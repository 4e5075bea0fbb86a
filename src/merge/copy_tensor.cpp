#include "aimerge/core/error.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/safetensors/tensor_digest.h"
#include "merge/sources/convert.h"

#include <algorithm>

namespace aimerge {
namespace {

/// What one thread works in.
struct CopyPlace {
    std::vector<std::byte> first, other, converted;
    std::vector<float> values;
};

std::uint64_t outputBytes(const TensorCopy& copy) {
    return static_cast<std::uint64_t>(copy.inputs.front().tensor->elements()) * bytesPerElement(copy.dtype);
}

void readElements(const InputView& view, std::uint64_t first, std::uint64_t count, std::vector<std::byte>& out) {
    const std::size_t width = bytesPerElement(view.tensor->dtype);
    out.resize(static_cast<std::size_t>(count) * width);
    view.model->read(*view.tensor, first * width, out);
}

/// NaN and infinity stay what they are: a copied tensor is not part of the merge's arithmetic.
std::span<const std::byte> convertedElements(const TensorCopy& copy, std::uint64_t count, CopyPlace& place) {
    const Dtype from = copy.inputs.front().tensor->dtype;
    if (from == copy.dtype) return place.first;
    place.values.resize(static_cast<std::size_t>(count));
    place.converted.resize(static_cast<std::size_t>(count) * bytesPerElement(copy.dtype));
    toFloat(from, place.first.data(), place.values);
    fromFloat(place.values, copy.dtype, place.converted.data());
    return place.converted;
}

void copyBlock(const TensorCopy& copy, std::size_t number, std::uint64_t block, std::size_t points, CopyPlace& place,
               MergeSink& sink) {
    const std::uint64_t blockElements = kDigestBlockBytes / bytesPerElement(copy.dtype), first = block * blockElements;
    const auto elements = static_cast<std::uint64_t>(copy.inputs.front().tensor->elements());
    const std::uint64_t count = std::min(blockElements, elements - first);
    readElements(copy.inputs.front(), first, count, place.first);
    for (std::size_t i = 1; i < copy.inputs.size(); ++i) {
        readElements(copy.inputs[i], first, count, place.other);
        if (place.other != place.first)
            throw InputError(
                "{}: the values in {} and {} differ; a tensor of dtype {} cannot be merged and must be the same in all "
                "models",
                copy.name, copy.inputs.front().model->name(), copy.inputs[i].model->name(),
                torchName(copy.inputs.front().tensor->dtype));
    }
    const std::span<const std::byte> bytes = convertedElements(copy, count, place);
    for (std::size_t point = 0; point < points; ++point) sink.write(number, point, block * kDigestBlockBytes, bytes);
}

}  // namespace

void copyTensors(std::span<const TensorCopy> tensors, std::size_t points, ThreadPool& threads, MergeSink& sink) {
    std::vector<CopyPlace> places(static_cast<std::size_t>(threads.threads()));
    for (std::size_t number = 0; number < tensors.size(); ++number) {
        const TensorCopy& copy = tensors[number];
        threads.forEach(digestBlocks(outputBytes(copy)), [&](std::size_t block, int worker) {
            copyBlock(copy, number, block, points, places[static_cast<std::size_t>(worker)], sink);
        });
        sink.finish(number);
    }
}

}  // namespace aimerge
