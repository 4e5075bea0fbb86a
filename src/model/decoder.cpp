#include "aimerge/model/decoder.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/model/weight_loader.h"
#include "model/layer.h"
#include "model/norm_block.h"

#include <ATen/ATen.h>

namespace aimerge {

Decoder::Decoder(const WeightSource& weights, Dtype computeDtype, std::int64_t maxLength, const Device& device)
    : weights_(weights),
      config_(weights.modelConfig()),
      scalarType_(computeDtype == Dtype::F32 ? at::kFloat : at::kBFloat16),
      device_(device.isGpu() ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device.gpu)) : at::Device(at::kCPU)) {
    if (computeDtype != Dtype::F32 && computeDtype != Dtype::BF16)
        throw UsageError("the decoder's dtype is {}, expected float32 or bfloat16", torchName(computeDtype));
    requireRunnable(config_, weights.name());
    if (config_.maxPositions > 0 && maxLength > config_.maxPositions)
        throw InputError(
            "{}: config.json: max_position_embeddings is {}, sequences of {} tokens are longer; "
            "lower calibration.sequence_length",
            weights.name(), config_.maxPositions, maxLength);

    if (description().mostPositions > 0 && maxLength > description().mostPositions)
        throw InputError(
            "{}: config.json: behind position {} (original_max_position_embeddings) queries are scaled, which the decoder "
            "does "
            "not run, and sequences have {} tokens; lower calibration.sequence_length",
            weights.name(), description().mostPositions, maxLength);

    std::vector<RotaryTables> rotations;
    for (const Rotation& rotation : description().rotations)
        rotations.push_back(makeRotaryTables(rotation, maxLength, scalarType_, device_, weights.name()));
    for (const LayerDescription& layer : description().layers)
        layers_.push_back(std::make_shared<const Layer>(layer, rotations));
}

at::Tensor Decoder::emptyHidden(std::int64_t sequences, std::int64_t length) const {
    return at::empty({sequences, length, config_.hiddenSize}, at::TensorOptions(scalarType_).device(device_));
}

double Decoder::embeddingScale() const {
    if (!description().roundsEmbeddingScale) return description().embeddingScale;
    return at::scalar_tensor(description().embeddingScale, scalarType_).to(at::kDouble).item<double>();
}

const TensorInfo& Decoder::embeddingTensor() const {
    return requireTensor(weights_, description().embedding, {config_.vocabSize, config_.hiddenSize});
}

void Decoder::embed(std::span<const std::int32_t> ids, at::Tensor& hidden) const {
    const TensorInfo& table = embeddingTensor();
    const std::size_t rowBytes = static_cast<std::size_t>(config_.hiddenSize) * bytesPerElement(table.dtype);
    const at::ScalarType storedType = floatingType(weights_, table);
    const bool isInPlace = storedType == scalarType_ && hidden.is_cpu();
    const at::Tensor rows =
        isInPlace ? hidden : at::empty(hidden.sizes(), at::TensorOptions(storedType).pinned_memory(!hidden.is_cpu()));
    auto* out = static_cast<std::byte*>(rows.data_ptr());
    for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= config_.vocabSize)
            throw InputError("{}: token id {} is outside the vocabulary of {} tokens", weights_.name(), ids[i],
                             config_.vocabSize);
        weights_.read(table, static_cast<std::uint64_t>(ids[i]) * rowBytes, {out + i * rowBytes, rowBytes});
    }
    // libtorch keeps pinned memory until the copies from it are done.
    if (!isInPlace) hidden.copy_(rows.to(device_, /*non_blocking=*/true));
    if (description().embeddingScale != 1) hidden.mul_(embeddingScale());
    if (description().positions) addPositions(hidden);
}

void Decoder::addPositions(at::Tensor& hidden) const {
    const PositionTable& table = *description().positions;
    if (!positions_.defined()) positions_ = load(requireTensor(weights_, table.name, {table.rows, config_.hiddenSize}));
    hidden.add_(positions_.narrow(0, table.offset, hidden.size(1)));
}

at::Tensor Decoder::load(const TensorInfo& tensor) const {
    bytesRead_ += tensor.bytes.size();
    weights_.startReading(tensor);
    return loadTensor(weights_, tensor, scalarType_, device_);
}

ModuleWeights Decoder::load(const std::string& module, const Shape& shape, std::int64_t biases) const {
    ModuleWeights weights;
    weights.weight = load(requireTensor(weights_, module + ".weight", shape));
    if (weights_.find(module + ".bias")) weights.bias = load(requireTensor(weights_, module + ".bias", {biases}));
    return weights;
}

void Decoder::startLoading(std::int64_t number) const {
    for (const ModuleDescription& module : layer(number).modules()) {
        const std::string name = description().moduleName(number, module);
        // What is absent is found when it is loaded.
        if (const TensorInfo* tensor = weights_.find(module.isNumber ? name : name + ".weight"))
            weights_.startReading(*tensor);
    }
}

LoadedLayer Decoder::loadLayer(std::int64_t number, std::int64_t end) const {
    if (number + 1 < end) startLoading(number + 1);
    LoadedLayer weights;
    for (const ModuleDescription& module : layer(number).modules()) {
        const std::string name = description().moduleName(number, module);
        weights.push_back(module.isNumber ? ModuleWeights{load(requireTensor(weights_, name, module.shape)), {}}
                                          : load(name, module.shape, module.outputs()));
    }
    return weights;
}

at::Tensor Decoder::inputAt(std::int64_t number, const LayerState& state) const {
    return layer(number).inputAt(state);
}

void Decoder::advance(std::int64_t number, const LoadedLayer& weights, LayerState& state, Tensors* outputs) const {
    layer(number).advance(weights, state, nullptr, outputs);
}

void Decoder::runLayer(std::int64_t number, const LoadedLayer& weights, at::Tensor& hidden,
                       ActivationObserver* observer) const {
    LayerState state;
    state.hidden = hidden;
    do {
        if (observer) observer->observe({number, state.number}, inputAt(number, state));
        advance(number, weights, state);
    } while (state.number != 0);
}

KeptLayer Decoder::runKeeping(std::int64_t number, const LoadedLayer& weights, at::Tensor& hidden) const {
    LayerState state;
    state.hidden = hidden;
    KeptLayer kept;
    do layer(number).advance(weights, state, &kept, nullptr);
    while (state.number != 0);
    hidden = state.hidden;
    return kept;
}

at::Tensor Decoder::backward(std::int64_t number, const LoadedLayer& weights, const KeptLayer& kept,
                             const at::Tensor& gradient, GradientObserver* observer) const {
    const auto nameOf = [&](std::size_t module) {
        return description().moduleName(number, layer(number).modules()[module]);
    };
    return layer(number).backward(weights, kept, gradient, nameOf, observer);
}

ModuleWeights Decoder::loadFinalNorm() const {
    return load(description().finalNorm.name, {config_.hiddenSize}, config_.hiddenSize);
}

ModuleWeights Decoder::loadHead() const {
    const Shape shape{config_.vocabSize, config_.hiddenSize};
    if (config_.tieWordEmbeddings) return {load(embeddingTensor()), {}};
    return load(description().head, shape, config_.vocabSize);
}

at::Tensor Decoder::runFinalNorm(const ModuleWeights& finalNorm, const at::Tensor& hidden,
                                 ActivationObserver* observer) const {
    if (observer) observer->observe(kFinalNormInput, hidden);
    at::Tensor normalised = normalise(description().finalNorm, finalNorm, hidden);
    if (observer) observer->observe(kHeadInput, normalised);
    return normalised;
}

at::Tensor Decoder::runHead(const ModuleWeights& head, const at::Tensor& normalised) const {
    at::Tensor logits = at::linear(normalised, head.weight, head.bias);
    if (description().logitScale != 1) logits.mul_(description().logitScale);
    const double cap = description().logitSoftcap;
    if (cap > 0) logits.div_(cap).tanh_().mul_(cap);
    return logits;
}

at::Tensor Decoder::headGradient(const at::Tensor& logits, const at::Tensor& gradient) const {
    const double cap = description().logitSoftcap, scale = description().logitScale;
    const at::Tensor scaled = cap > 0 ? at::tanh_backward(gradient, logits / cap) : gradient;  // cap and inverse cancel out
    return scale == 1 ? scaled : scaled * scale;
}

at::Tensor Decoder::finalNormGradient(const ModuleWeights& finalNorm, const at::Tensor& hidden, const at::Tensor& gradient,
                                      GradientObserver* observer) const {
    const std::vector modules{description().finalNorm.module()};
    const auto nameOf = [&](std::size_t /*module*/) { return description().finalNorm.name; };
    return normGradient(description().finalNorm, finalNorm, hidden, gradient, {modules, nameOf, observer}, 0);
}

}  // namespace aimerge
