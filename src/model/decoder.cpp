#include "aimerge/model/decoder.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/core/error.h"
#include "aimerge/model/weight_loader.h"
#include "model/attention.h"
#include "model/projections.h"
#include "model/rotary_tables.h"
#include "model/row_kernels.h"
#include "model/shifted_rms_norm.h"
#if AIMERGE_HAS_CUDA
#include "model/device_rows.h"
#endif

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace aimerge {
namespace {

constexpr const char* kFinalNormName = "model.norm.weight";

/// Calls work(first row, rows) on ranges of rows, shared out over libtorch's threads.
template <typename Work>
void overRows(std::int64_t rows, std::int64_t elementsPerRow, const Work& work) {
    constexpr std::int64_t kElementsPerThread = 32768;
    const std::int64_t grain = std::max<std::int64_t>(1, kElementsPerThread / std::max<std::int64_t>(1, elementsPerRow));
    at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) { work(begin, end - begin); });
}

template <typename Element>
void rmsNormTensor(const at::Tensor& x, const at::Tensor& weight, at::Tensor& out, double eps) {
    const std::int64_t channels = x.size(-1);
    const auto* in = static_cast<const Element*>(x.const_data_ptr());
    const auto* scale = static_cast<const Element*>(weight.const_data_ptr());
    auto* result = static_cast<Element*>(out.data_ptr());
    overRows(x.numel() / channels, channels, [&](std::int64_t first, std::int64_t count) {
        kernels::rmsNorm(in + first * channels, scale, result + first * channels, count, channels, static_cast<float>(eps));
    });
}

at::Tensor rmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
#if AIMERGE_HAS_CUDA
    if (x.is_cuda()) return rmsNormOnDevice(x, weight, eps);
#endif
    at::Tensor out = at::empty_like(x);
    if (x.scalar_type() == at::kFloat) {
        rmsNormTensor<float>(x, weight, out, eps);
    } else {
        rmsNormTensor<kernels::Bf16>(x, weight, out, eps);
    }
    return out;
}

template <typename Element>
void rotateTensor(at::Tensor& x, const kernels::Rotation& rotation) {
    const std::int64_t width = rotation.heads * rotation.headDim;
    auto* rows = static_cast<Element*>(x.data_ptr());
    overRows(x.numel() / width, width,
             [&](std::int64_t first, std::int64_t count) { kernels::rotate(rows + first * width, first, count, rotation); });
}

/// x: [sequences, length, heads * headDim], rotated in place.
void rotate(at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines, std::int64_t heads) {
#if AIMERGE_HAS_CUDA
    if (x.is_cuda()) return rotateOnDevice(x, cosines, sines, heads);
#endif
    const kernels::Rotation rotation{cosines.const_data_ptr<float>(),
                                     sines.const_data_ptr<float>(),
                                     x.size(1),
                                     heads,
                                     x.size(2) / heads,
                                     cosines.size(1)};
    if (x.scalar_type() == at::kFloat) {
        rotateTensor<float>(x, rotation);
    } else {
        rotateTensor<kernels::Bf16>(x, rotation);
    }
}

at::Tensor linear(const LinearWeights& weights, const at::Tensor& x) {
    return at::linear(x, weights.weight, weights.bias);
}

}  // namespace

Decoder::Decoder(const WeightSource& weights, Dtype computeDtype, std::int64_t maxLength, const Device& device)
    : weights_(weights),
      config_(weights.modelConfig()),
      family_(familyOf(config_, weights.name())),
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

    tables_ = makeRotaryTables(config_, maxLength, scalarType_, weights.name());
    tables_ = {tables_.cosines.to(device_), tables_.sines.to(device_)};
}

at::Tensor Decoder::emptyHidden(std::int64_t sequences, std::int64_t length) const {
    return at::empty({sequences, length, config_.hiddenSize}, at::TensorOptions(scalarType_).device(device_));
}

double Decoder::embeddingScale() const {
    if (!family_.scalesEmbeddings) return 1;
    return at::scalar_tensor(std::sqrt(static_cast<double>(config_.hiddenSize)), scalarType_).to(at::kDouble).item<double>();
}

const TensorInfo& Decoder::embeddingTensor() const {
    return requireTensor(weights_, kEmbeddingName, {config_.vocabSize, config_.hiddenSize});
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
    if (family_.scalesEmbeddings) hidden.mul_(embeddingScale());
}

at::Tensor Decoder::load(const TensorInfo& tensor) const {
    bytesRead_ += tensor.bytes.size();
    return loadTensor(weights_, tensor, scalarType_, device_);
}

LinearWeights Decoder::loadLinear(const std::string& module, std::int64_t out, std::int64_t in) const {
    LinearWeights weights;
    weights.weight = load(requireTensor(weights_, module + ".weight", {out, in}));
    if (weights_.find(module + ".bias")) weights.bias = load(requireTensor(weights_, module + ".bias", {out}));
    return weights;
}

LayerWeights Decoder::loadLayer(std::int64_t layer) const {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const std::int64_t hidden = config_.hiddenSize, inner = config_.intermediateSize;
    const std::int64_t queries = config_.heads * config_.headDim, keys = config_.keyValueHeads * config_.headDim;
    const auto norm = [&](const char* name, std::int64_t channels) {
        return load(requireTensor(weights_, prefix + name, {channels}));
    };
    const auto projection = [&](const char* name, std::int64_t out, std::int64_t in) {
        return loadLinear(prefix + name, out, in);
    };
    LayerWeights weights;
    weights.inputNorm = norm("input_layernorm.weight", hidden);
    weights.postAttentionNorm = norm("post_attention_layernorm.weight", hidden);
    if (family_.normalisesOutputs) {
        weights.preFeedforwardNorm = norm("pre_feedforward_layernorm.weight", hidden);
        weights.postFeedforwardNorm = norm("post_feedforward_layernorm.weight", hidden);
    }
    if (family_.normalisesHeads) {
        weights.queryNorm = norm("self_attn.q_norm.weight", config_.headDim);
        weights.keyNorm = norm("self_attn.k_norm.weight", config_.headDim);
    }
    if (family_.fusesProjections) {
        weights.attentionInput = projection("self_attn.qkv_proj", queries + 2 * keys, hidden);
        weights.mlpInput = projection("mlp.gate_up_proj", 2 * inner, hidden);
    } else {
        weights.query = projection("self_attn.q_proj", queries, hidden);
        weights.key = projection("self_attn.k_proj", keys, hidden);
        weights.value = projection("self_attn.v_proj", keys, hidden);
        weights.gate = projection("mlp.gate_proj", inner, hidden);
        weights.up = projection("mlp.up_proj", inner, hidden);
    }
    weights.output = projection("self_attn.o_proj", hidden, queries);
    weights.down = projection("mlp.down_proj", hidden, inner);
    return weights;
}

at::Tensor Decoder::normalise(const at::Tensor& x, const at::Tensor& weight) const {
    return family_.shiftsNorms ? shiftedRmsNorm(x, weight, config_.rmsNormEps) : rmsNorm(x, weight, config_.rmsNormEps);
}

std::vector<ActivationPoint> Decoder::points() const {
    using enum ActivationPoint;
    std::vector<ActivationPoint> points{InputNorm, family_.fusesProjections ? FusedAttentionInput : AttentionInput};
    if (family_.normalisesHeads) points.insert(points.end(), {QueryNorm, KeyNorm});
    points.insert(points.end(), {AttentionOutput, PostAttentionNorm});
    if (family_.normalisesOutputs) points.push_back(PreFeedforwardNorm);
    points.insert(points.end(), {family_.fusesProjections ? FusedMlpInput : MlpInput, MlpOutput});
    if (family_.normalisesOutputs) points.push_back(PostFeedforwardNorm);
    return points;
}

LayerState Decoder::enterLayer(const at::Tensor& hidden) const {
    return {.point = ActivationPoint::InputNorm, .hidden = hidden, .input = hidden, .query = {}, .key = {}, .value = {}};
}

/// Query, key and value stay three products: one product over joined weights is no faster (within 3 %).
void Decoder::project(const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs) const {
    const AttentionInputs inputs = attentionInputs(config_, weights);
    state.query = linear(inputs.query, state.input);
    state.key = linear(inputs.key, state.input);
    state.value = linear(inputs.value, state.input);
    if (!outputs) return;
    if (family_.fusesProjections)
        *outputs = {at::cat({state.query, state.key, state.value}, -1)};
    else  // the rotation works in place
        *outputs = {state.query.clone(), state.key.clone(), state.value};
}

/// From projections, normalised where the family does so, to the input of o_proj.
void Decoder::attend(std::int64_t layer, LayerState& state, LayerTrace* trace) const {
    rotate(state.query, tables_.cosines, tables_.sines, config_.heads);
    rotate(state.key, tables_.cosines, tables_.sines, config_.keyValueHeads);
    state.input = attention(config_, layer, splitHeads(state.query, config_.heads),
                            splitHeads(state.key, config_.keyValueHeads), splitHeads(state.value, config_.keyValueHeads));
    if (trace) trace->query = state.query, trace->key = state.key, trace->value = state.value, trace->mixed = state.input;
    state.query = state.key = state.value = at::Tensor();
    state.point = ActivationPoint::AttentionOutput;
}

/// From the MLP's input to that of down_proj.
void Decoder::feed(const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs,
                   LayerTrace* trace) const {
    const MlpInputs inputs = mlpInputs(config_, weights);
    at::Tensor inner = linear(inputs.gate, state.input);
    const at::Tensor gate = inner;
    if (trace || outputs) inner = inner.clone();
    config_.activation == "silu" ? at::silu_(inner) : at::gelu_(inner, "tanh");
    const at::Tensor up = linear(inputs.up, state.input);
    if (trace) trace->gate = gate, trace->up = up;
    if (outputs) *outputs = family_.fusesProjections ? std::vector{at::cat({gate, up}, -1)} : std::vector{gate, up};
    state.input = inner.mul_(up);
    state.point = ActivationPoint::MlpOutput;
}

void Decoder::add(LayerState& state, const at::Tensor& branch, LayerTrace* trace) const {
    if (trace)
        state.hidden = state.hidden + branch;
    else
        state.hidden.add_(branch);
    state.input = state.hidden;
}

void Decoder::advance(std::int64_t layer, const LayerWeights& weights, LayerState& state,
                      std::vector<at::Tensor>* outputs) const {
    advance(layer, weights, state, outputs, nullptr);
}

void Decoder::advance(std::int64_t layer, const LayerWeights& weights, LayerState& state, std::vector<at::Tensor>* outputs,
                      LayerTrace* trace) const {
    using enum ActivationPoint;
    const auto keep = [&](at::Tensor LayerTrace::*place, const at::Tensor& input) {
        if (trace) trace->*place = input;
    };
    const auto asHeads = [&](const at::Tensor& x) { return x.view({x.size(0), -1, config_.headDim}); };
    // To the norm behind a branch, or into the sum where the family has none.
    const auto leaveBranch = [&](const LinearWeights& linearWeights, at::Tensor LayerTrace::*place, ActivationPoint norm,
                                 ActivationPoint next) {
        const at::Tensor output = linear(linearWeights, state.input);
        if (outputs) *outputs = {output};
        if (family_.normalisesOutputs) {
            keep(place, output);
            state.input = output;
            state.point = norm;
        } else {
            add(state, output, trace);
            state.point = next;
        }
    };
    switch (state.point) {
        case InputNorm:
            keep(&LayerTrace::input, state.hidden);
            state.input = normalise(state.hidden, weights.inputNorm);
            keep(&LayerTrace::attentionInput, state.input);
            state.point = family_.fusesProjections ? FusedAttentionInput : AttentionInput;
            return;
        case AttentionInput:
        case FusedAttentionInput:
            project(weights, state, outputs);
            if (!family_.normalisesHeads) return attend(layer, state, trace);
            keep(&LayerTrace::plainQuery, state.query);
            keep(&LayerTrace::plainKey, state.key);
            state.input = asHeads(state.query);
            state.point = QueryNorm;
            return;
        case QueryNorm:
            state.query = normalise(state.input, weights.queryNorm).view(state.query.sizes());
            state.input = asHeads(state.key);
            state.point = KeyNorm;
            return;
        case KeyNorm:
            state.key = normalise(state.input, weights.keyNorm).view(state.key.sizes());
            return attend(layer, state, trace);
        case AttentionOutput:
            return leaveBranch(weights.output, &LayerTrace::attended, PostAttentionNorm, PostAttentionNorm);
        case PostAttentionNorm:
            if (family_.normalisesOutputs) {
                add(state, normalise(state.input, weights.postAttentionNorm), trace);
                state.point = PreFeedforwardNorm;
                return;
            }
            [[fallthrough]];
        case PreFeedforwardNorm:
            keep(&LayerTrace::between, state.hidden);
            state.input =
                normalise(state.hidden, family_.normalisesOutputs ? weights.preFeedforwardNorm : weights.postAttentionNorm);
            keep(&LayerTrace::mlpInput, state.input);
            state.point = family_.fusesProjections ? FusedMlpInput : MlpInput;
            return;
        case MlpInput:
        case FusedMlpInput:
            return feed(weights, state, outputs, trace);
        case MlpOutput:
            return leaveBranch(weights.down, &LayerTrace::fed, PostFeedforwardNorm, InputNorm);
        case PostFeedforwardNorm:
            add(state, normalise(state.input, weights.postFeedforwardNorm), trace);
            state.point = InputNorm;
            return;
        case FinalNorm:
        case Head:
            return;  // behind the layers
    }
}

void Decoder::runLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden,
                       ActivationObserver* observer) const {
    runLayer(layer, weights, hidden, observer, nullptr);
}

LayerTrace Decoder::traceLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden) const {
    LayerTrace trace;
    runLayer(layer, weights, hidden, nullptr, &trace);
    return trace;
}

void Decoder::runLayer(std::int64_t layer, const LayerWeights& weights, at::Tensor& hidden, ActivationObserver* observer,
                       LayerTrace* trace) const {
    LayerState state = enterLayer(hidden);
    do {
        if (observer) observer->observe(state.point, layer, state.input);
        advance(layer, weights, state, nullptr, trace);
    } while (state.point != ActivationPoint::InputNorm);
    hidden = state.hidden;
}

void Decoder::rotateBack(at::Tensor& gradient, std::int64_t heads) const {
    rotate(gradient, tables_.cosines, tables_.sines.neg(), heads);
}

at::Tensor Decoder::loadFinalNorm() const {
    return load(requireTensor(weights_, kFinalNormName, {config_.hiddenSize}));
}

at::Tensor Decoder::loadHead() const {
    const Shape shape{config_.vocabSize, config_.hiddenSize};
    const TensorInfo& head = config_.tieWordEmbeddings ? embeddingTensor() : requireTensor(weights_, kHeadName, shape);
    return load(head);
}

at::Tensor Decoder::runFinalNorm(const at::Tensor& finalNorm, const at::Tensor& hidden, ActivationObserver* observer) const {
    if (observer) observer->observe(ActivationPoint::FinalNorm, -1, hidden);
    at::Tensor normalised = normalise(hidden, finalNorm);
    if (observer) observer->observe(ActivationPoint::Head, -1, normalised);
    return normalised;
}

at::Tensor Decoder::runHead(const at::Tensor& head, const at::Tensor& normalised) const {
    at::Tensor logits = at::linear(normalised, head);
    if (config_.logitSoftcap > 0) logits.div_(config_.logitSoftcap).tanh_().mul_(config_.logitSoftcap);
    return logits;
}

}  // namespace aimerge
