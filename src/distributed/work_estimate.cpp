#include "distributed/work_estimate.h"

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

/// The number of a layer of the first stack, counted on where layers for multi-token prediction stand behind it; -1 for
/// other tensors.
std::int64_t layerOf(const Architecture& architecture, const std::string& tensor) {
    const Place place = architecture.placeOf(tensor);
    if (place.stack != 0) return -1;
    if (place.part == Part::Layer) return place.layer;
    return place.part == Part::Prediction && place.isNumbered() ? architecture.layers() + place.layer : -1;
}

/// Those of the base for a calibration, those of the output for a merge alone: slices may have given it others.
std::size_t layersOf(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    const bool calibrates = settings.blocks > 0 || !settings.merging;
    if (calibrates) return static_cast<std::size_t>(base.architecture().layers());
    std::int64_t last = -1;
    for (const OutputTensor& tensor : output) last = std::max(last, layerOf(base.architecture(), tensor.name));
    return static_cast<std::size_t>(last + 1);
}

/// Where a tensor's work counts; null for tensors outside of the embedding, the layers and the end of the first stack.
Work* partOf(ModelWork& model, const Architecture& architecture, const std::string& name) {
    const Place place = architecture.placeOf(name);
    if (place.stack != 0 || place.part == Part::Aside) return nullptr;
    if (place.part == Part::BeforeLayers) return &model.embedding;
    if (place.part == Part::BehindLayers) return &model.end;
    const std::int64_t layer = layerOf(architecture, name);
    return layer >= 0 && std::cmp_less(layer, model.layers.size()) ? &model.layers[static_cast<std::size_t>(layer)]
                                                                   : nullptr;
}

Work mergeWork(const OutputTensor& tensor, const PlanSettings& settings) {
    Work work;
    work.tensors.push_back(tensor.name);
    work.bytesToRead =
        static_cast<std::uint64_t>(elementCount(tensor.shape)) * settings.inputBytesPerElement * settings.inputs;
    work.bytesToWrite = tensor.bytes() * settings.omegas;
    return work;
}

/// Two float64 sums and a float32 maximum (calibration/channel_sums.h).
constexpr std::uint64_t kSumBytesPerChannel = 20;

/// That enter a matrix, or the matrices of all experts.
std::uint64_t channelsOf(const Parameter& parameter, const Shape& shape) {
    const std::int64_t channels = shape[shape.size() - static_cast<std::size_t>(-parameter.inputAxis)];
    return static_cast<std::uint64_t>(parameter.role == Role::Experts ? channels * shape.front() : channels);
}

void addCalibration(ModelWork& model, const Checkpoint& base, const PlanSettings& settings) {
    const double tokens = static_cast<double>(settings.blocks) * static_cast<double>(settings.blockLength);
    const Architecture& architecture = base.architecture();
    for (const TensorInfo& tensor : base.tensors()) {
        const Parameter parameter = architecture.describe(tensor);
        const bool isRun = parameter.place.part == Part::Layer ||
                           (parameter.place.part == Part::BehindLayers && parameter.role == Role::Norm);
        Work* work = isRun ? partOf(model, architecture, tensor.name) : nullptr;
        if (work == nullptr) continue;
        work->calibrationBytesToRead += tensor.bytes.size();
        work->weightBytes += static_cast<std::uint64_t>(tensor.elements()) * bytesPerElement(settings.computeDtype);
        const bool isMatrix =
            parameter.role == Role::Linear || parameter.role == Role::Router || parameter.role == Role::Experts;
        if (!isMatrix) continue;
        work->calibrationFlops +=
            2.0 * static_cast<double>(tensor.elements()) * tokens * architecture.shareOfTokens(parameter);
        if (architecture.moduleWithSameInput(parameter.module) == parameter.module)
            work->statisticsBytes += kSumBytesPerChannel * channelsOf(parameter, tensor.shape);
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
    calibrationBytesToRead += other.calibrationBytesToRead;
    statisticsBytes += other.statisticsBytes;
    calibrationFlops += other.calibrationFlops;
}

ModelWork workOf(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    ModelWork model;
    model.layers.resize(layersOf(base, output, settings));
    if (settings.blocks > 0) addCalibration(model, base, settings);
    if (!settings.merging) return model;
    for (Work& work : mergeWorks(base, output, settings)) {
        if (Work* part = partOf(model, base.architecture(), work.tensors.front())) {
            part->add(work);
        } else {
            model.others.push_back(std::move(work));
        }
    }
    return model;
}

std::vector<Work> mergeWorks(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    std::vector<const OutputTensor*> inModelOrder;
    for (const OutputTensor& tensor : output) inModelOrder.push_back(&tensor);
    base.architecture().sortInModelOrder(inModelOrder,
                                         [](const OutputTensor* tensor) { return std::string_view(tensor->name); });
    std::vector<Work> works;
    for (const OutputTensor* tensor : inModelOrder) works.push_back(mergeWork(*tensor, settings));
    return works;
}

double estimatedSeconds(const Work& work, const Hardware& hardware) {
    const double mergeBytes = static_cast<double>(work.bytesToRead + work.bytesToWrite);
    return work.calibrationFlops / hardware.flopsPerSecond + mergeBytes / hardware.bytesPerSecond;
}

}  // namespace aimerge
