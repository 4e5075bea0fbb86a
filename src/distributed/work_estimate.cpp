#include "distributed/work_estimate.h"

#include "aimerge/architecture/parameter_name.h"

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

/// Those of the base for a calibration, those of the output for a merge alone: slices may have given it others.
std::size_t layersOf(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    const bool calibrates = settings.blocks > 0 || !settings.merging;
    if (calibrates && base.modelConfig().layers > 0) return static_cast<std::size_t>(base.modelConfig().layers);
    std::int64_t last = -1;
    if (calibrates)
        for (const TensorInfo& tensor : base.tensors()) last = std::max(last, placeOf(tensor.name).layer);
    for (const OutputTensor& tensor : output) last = std::max(last, placeOf(tensor.name).layer);
    return static_cast<std::size_t>(last + 1);
}

/// Where a tensor's work counts; null for tensors outside of the embedding, the layers and the end.
Work* partOf(ModelWork& model, const std::string& name) {
    const Place place = placeOf(name);
    switch (place.part) {
        case Part::Embedding:
            return &model.embedding;
        case Part::FinalNorm:
        case Part::Head:
            return &model.end;
        case Part::Layer:
            return std::cmp_less(place.layer, model.layers.size()) ? &model.layers[static_cast<std::size_t>(place.layer)]
                                                                   : nullptr;
        case Part::Other:
            return nullptr;
    }
    return nullptr;
}

Work mergeWork(const OutputTensor& tensor, const PlanSettings& settings) {
    Work work;
    work.tensors.push_back(tensor.name);
    work.bytesToRead =
        static_cast<std::uint64_t>(elementCount(tensor.shape)) * settings.inputBytesPerElement * settings.inputs;
    work.bytesToWrite = tensor.bytes() * settings.omegas;
    return work;
}

void addCalibration(ModelWork& model, const Checkpoint& base, const PlanSettings& settings) {
    const double tokens = static_cast<double>(settings.blocks) * static_cast<double>(settings.blockLength);
    for (const TensorInfo& tensor : base.tensors()) {
        const Part part = placeOf(tensor.name).part;
        if (part != Part::Layer && part != Part::FinalNorm) continue;
        Work* work = partOf(model, tensor.name);
        if (work == nullptr) continue;
        work->weightBytes += static_cast<std::uint64_t>(tensor.elements()) * bytesPerElement(settings.computeDtype);
        if (tensor.shape.size() == 2) work->calibrationFlops += 2.0 * static_cast<double>(tensor.elements()) * tokens;
    }
    const ModelConfig& config = base.modelConfig();
    const double attended = static_cast<double>(settings.blockLength + 1) / 2;
    const double channels = static_cast<double>(config.heads * config.headDim);
    for (Work& layer : model.layers) layer.calibrationFlops += 4.0 * attended * channels * tokens;
}

}  // namespace

void Work::add(const Work& other) {
    tensors.insert(tensors.end(), other.tensors.begin(), other.tensors.end());
    bytesToRead += other.bytesToRead;
    bytesToWrite += other.bytesToWrite;
    weightBytes += other.weightBytes;
    calibrationFlops += other.calibrationFlops;
}

ModelWork workOf(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    ModelWork model;
    model.layers.resize(layersOf(base, output, settings));
    if (settings.blocks > 0) addCalibration(model, base, settings);
    if (!settings.merging) return model;
    std::vector<const OutputTensor*> inModelOrder;
    for (const OutputTensor& tensor : output) inModelOrder.push_back(&tensor);
    std::sort(inModelOrder.begin(), inModelOrder.end(),
              [](const OutputTensor* a, const OutputTensor* b) { return modelOrderLess(a->name, b->name); });
    for (const OutputTensor* tensor : inModelOrder) {
        Work work = mergeWork(*tensor, settings);
        if (Work* part = partOf(model, tensor->name)) {
            part->add(work);
        } else {
            model.others.push_back(std::move(work));
        }
    }
    return model;
}

double estimatedSeconds(const Work& work, const Hardware& hardware) {
    const double mergeBytes = static_cast<double>(work.bytesToRead + work.bytesToWrite);
    return work.calibrationFlops / hardware.flopsPerSecond + mergeBytes / hardware.bytesPerSecond;
}

}  // namespace aimerge
