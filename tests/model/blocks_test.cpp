// Every block against the same computation in float64, forwards, and by autograd backwards: in float32 nearly equal, in
// bfloat16 as near as its roundings let it be.

#include "aimerge/model/gradient.h"
#include "model/layer.h"
#include "model/xielu.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

constexpr std::int64_t kHidden = 12, kLength = 7;

at::Tensor draw(at::IntArrayRef sizes) {
    return at::randn(sizes, at::detail::getDefaultCPUGenerator(), at::TensorOptions(at::kDouble));
}

ModuleDescription linear(const char* name, std::int64_t outputs, std::int64_t inputs) {
    return {.name = name, .shape = {outputs, inputs}};
}

using Leaves = std::vector<ModuleWeights>;  // float64, differentiated
using Reference = std::function<at::Tensor(const at::Tensor& hidden, const Leaves& weights)>;

struct BlockCase {
    std::string name;
    LayerDescription layer;
    Reference reference;
    bool hasBiases = true;
};

void PrintTo(const BlockCase& block, std::ostream* out) {
    *out << block.name;
}

/// A branch alone is no layer: what it gives is added to the hidden state.
LayerDescription addedLayer(BlockDescription block) {
    return {{std::move(block), AddDescription{0.5}}};
}

// ---- references

at::Tensor linearOf(const at::Tensor& x, const ModuleWeights& weights) {
    return at::linear(x, weights.weight, weights.bias);
}

at::Tensor rms(const at::Tensor& x, double eps) {
    return x * at::rsqrt(x.square().mean(-1, true) + eps);
}

at::Tensor normOf(const NormDescription& norm, const at::Tensor& x, const ModuleWeights& weights) {
    if (norm.kind == NormKind::Layer) return at::layer_norm(x, {norm.channels}, weights.weight, weights.bias, norm.eps);
    if (norm.kind == NormKind::LayerShifted)
        return at::layer_norm(x, {norm.channels}, 1 + weights.weight, weights.bias, norm.eps);
    return rms(x, norm.eps) * (norm.kind == NormKind::RmsShifted ? 1 + weights.weight : weights.weight);
}

/// The last four weights are alpha_p, alpha_n, beta and eps.
at::Tensor xielu(const at::Tensor& x, const Leaves& weights) {
    const auto number = [&](std::size_t fromBehind) { return weights[weights.size() - fromBehind].weight; };
    const at::Tensor beta = number(2), positive = at::log1p(at::exp(number(4))),
                     negative = beta + at::log1p(at::exp(number(3)));
    return at::where(x > 0, positive * x * x, negative * (at::exp(at::minimum(x, number(1))) - 1 - x)) + beta * x;
}

at::Tensor activated(ActivationFunction function, const at::Tensor& x, const Leaves& weights) {
    switch (function) {
        case ActivationFunction::Silu:
            return x * at::sigmoid(x);
        case ActivationFunction::GeluTanh:
            return 0.5 * x * (1 + at::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x.pow(3))));
        case ActivationFunction::Gelu:
            return 0.5 * x * (1 + at::erf(x / std::sqrt(2.0)));
        case ActivationFunction::Relu:
            break;
        case ActivationFunction::SquaredRelu:
            return at::relu(x).square();
        case ActivationFunction::Xielu:
            return xielu(x, weights);
    }
    return at::relu(x);
}

/// One head at one position; `angles` of each pair.
at::Tensor rotated(const at::Tensor& x, const at::Tensor& angles, bool isInterleaved) {  // x: [length, heads, headDim]
    const std::int64_t half = angles.size(1);
    std::vector<at::Tensor> channels;
    for (std::int64_t c = 0; c < x.size(2); ++c) channels.push_back(x.select(2, c));
    std::vector<at::Tensor> result = channels;
    for (std::int64_t i = 0; i < half; ++i) {
        const auto first = static_cast<std::size_t>(isInterleaved ? 2 * i : i),
                   second = static_cast<std::size_t>(isInterleaved ? 2 * i + 1 : i + half);
        const at::Tensor cosine = angles.select(1, i).cos().unsqueeze(1), sine = angles.select(1, i).sin().unsqueeze(1);
        result[first] = channels[first] * cosine - channels[second] * sine;
        result[second] = channels[second] * cosine + channels[first] * sine;
    }
    return at::stack(result, 2);
}

Rotation rotationOf(double share, bool isInterleaved) {
    Rotation rotation{.theta = 100, .scaling = {}, .headDim = 4, .maxPositions = kLength, .isInterleaved = isInterleaved};
    rotation.scaling.rotatedShare = share;
    return rotation;
}

at::Tensor anglesOf(const Rotation& rotation) {
    const double dim = static_cast<double>(rotation.headDim) * rotation.scaling.rotatedShare;
    const at::Tensor frequencies = at::pow(1 / rotation.theta, at::arange(0, dim, 2, at::kDouble) / dim);
    return at::outer(at::arange(kLength, at::kDouble), frequencies);
}

at::Tensor attentionOf(const AttentionDescription& d, const Rotation& rotation, const at::Tensor& hidden,
                       const Leaves& weights) {
    const std::int64_t keys = d.keyValueHeads, share = d.heads / keys;
    at::Tensor query, key, value;
    if (d.fusion == Fusion::None) {
        query = linearOf(hidden, weights[0]), key = linearOf(hidden, weights[1]), value = linearOf(hidden, weights[2]);
    } else if (d.fusion == Fusion::Concatenated) {
        const auto parts =
            linearOf(hidden, weights[0]).split_with_sizes({d.queryChannels(), d.keyChannels(), d.keyChannels()}, -1);
        query = parts[0], key = parts[1], value = parts[2];
    } else {
        const at::Tensor all = linearOf(hidden, weights[0]).view({1, kLength, keys, share + 2, d.headDim});
        query = all.narrow(3, 0, share).reshape({1, kLength, -1});
        key = all.select(3, share).reshape({1, kLength, -1}), value = all.select(3, share + 1).reshape({1, kLength, -1});
    }
    const std::size_t firstNorm = d.projections.size();
    const auto prepare = [&](at::Tensor x, std::int64_t heads, const std::optional<NormDescription>& norm,
                             std::size_t number) {
        const auto normed = [&](const at::Tensor& y) {
            return norm ? normOf(*norm, y.reshape({-1, norm->channels}), weights[number]) : y;
        };
        const auto turned = [&](const at::Tensor& y) {
            const at::Tensor byHead = y.reshape({kLength, heads, d.headDim});
            return d.rotation ? rotated(byHead, anglesOf(rotation), rotation.isInterleaved) : byHead;
        };
        return (d.normalisesRotated ? normed(turned(x)) : turned(normed(x))).reshape({kLength, heads, d.headDim});
    };
    if (d.normalisesEachHead) {
        const auto ofHeads = [&](const at::Tensor& x, std::int64_t heads, const NormDescription& norm, std::size_t first) {
            std::vector<at::Tensor> parts = x.split(d.headDim, -1);
            for (std::size_t head = 0; std::cmp_less(head, heads); ++head)
                parts[head] = normOf(norm, parts[head], weights[first + head]);
            return prepare(at::cat(parts, -1), heads, std::nullopt, 0);
        };
        query = ofHeads(query, d.heads, *d.queryNorm, firstNorm);
        key = ofHeads(key, keys, *d.keyNorm, firstNorm + static_cast<std::size_t>(d.heads));
    } else {
        query = prepare(query, d.heads, d.queryNorm, firstNorm);
        key = prepare(key, keys, d.keyNorm, firstNorm + 1);
    }
    value = value.reshape({kLength, keys, d.headDim});
    std::vector<at::Tensor> mixed;
    for (std::int64_t head = 0; head < d.heads; ++head) {
        at::Tensor scores = at::matmul(query.select(1, head), key.select(1, head / share).t()) * d.scale;
        if (d.softcap > 0) scores = at::tanh(scores / d.softcap) * d.softcap;
        const at::Tensor back = at::arange(kLength).unsqueeze(1) - at::arange(kLength).unsqueeze(0);
        at::Tensor hidden_ = back < 0;
        if (d.window > 0) hidden_ = at::logical_or(hidden_, back >= d.window);
        mixed.push_back(at::matmul(at::softmax(scores.masked_fill(hidden_, -INFINITY), -1), value.select(1, head / share)));
    }
    return linearOf(at::stack(mixed, 1).reshape({1, kLength, -1}), weights.back());
}

// ---- cases

BlockCase normCase(const std::string& name, NormKind kind) {
    const NormDescription norm{"norm", kHidden, kind, 0.25};
    return {name, addedLayer(norm), [norm](const at::Tensor& x, const Leaves& w) { return x + 0.5 * normOf(norm, x, w[0]); },
            kind == NormKind::Layer || kind == NormKind::LayerShifted};
}

BlockCase mlpCase(const std::string& name, ActivationFunction function, bool isGated, bool isFused = false) {
    constexpr std::int64_t kInner = 10;
    MlpDescription mlp{.inner = kInner, .isGated = isGated};
    if (isFused)
        mlp.projections = {linear("gate_up", 2 * kInner, kHidden)};
    else
        mlp.projections.assign(isGated ? 2 : 1, linear("in", kInner, kHidden));
    mlp.activation = function;
    mlp.output = linear("down", kHidden, kInner);
    mlp.from = Stream::Hidden;
    if (function == ActivationFunction::Xielu)
        for (const char* number : {"alpha_p", "alpha_n", "beta", "eps"})
            mlp.numbers.push_back({.name = number, .shape = {1}, .isNumber = true});
    const std::size_t down = mlp.projections.size();
    return {name, addedLayer(mlp), [=](const at::Tensor& x, const Leaves& w) {
                at::Tensor inner =
                    activated(function, isFused ? linearOf(x, w[0]).narrow(-1, 0, kInner) : linearOf(x, w[0]), w);
                if (isGated) inner = inner * (isFused ? linearOf(x, w[0]).narrow(-1, kInner, kInner) : linearOf(x, w[1]));
                return x + 0.5 * linearOf(inner, w[down]);
            }};
}

struct AttentionOptions {
    std::string name;
    Fusion fusion = Fusion::None;
    bool rotates = true, isInterleaved = false, normalises = false, isWhole = false, isEach = false, isRotated = false;
    double share = 1;
    std::int64_t window = 0;
};

/// The table that the layers of a case rotate by.
Rotation rotationOfCase(const std::string& name) {
    const auto has = [&](const char* word) { return name.find(word) != std::string::npos; };
    return rotationOf(has("partial") ? 0.5 : 1, has("interleaved"));
}

BlockCase attentionCase(const AttentionOptions& wanted) {
    AttentionDescription d{.heads = 4, .keyValueHeads = 2, .headDim = 4, .fusion = wanted.fusion};
    if (wanted.fusion == Fusion::None)
        d.projections = {linear("q", 16, kHidden), linear("k", 8, kHidden), linear("v", 8, kHidden)};
    else
        d.projections = {linear("qkv", 32, kHidden)};
    if (wanted.normalises) {
        const NormKind kind = wanted.isWhole ? NormKind::RmsRoundedOnce : NormKind::Rms;
        d.queryNorm = NormDescription{"q_norm", wanted.isWhole ? 16 : 4, kind, 0.1};
        d.keyNorm = NormDescription{"k_norm", wanted.isWhole ? 8 : 4, kind, 0.1};
        d.normalisesEachHead = wanted.isEach;
        d.normalisesRotated = wanted.isRotated;
    }
    if (wanted.rotates) d.rotation = 0;
    d.scale = 0.6;
    d.window = wanted.window;
    d.output = linear("out", kHidden, 16);
    d.from = Stream::Hidden;
    const Rotation rotation = rotationOfCase(wanted.name);
    return {wanted.name, addedLayer(d),
            [=](const at::Tensor& x, const Leaves& w) { return x + 0.5 * attentionOf(d, rotation, x, w); }};
}

/// Two branches that begin with the same norm, and with norms of their own.
BlockCase parallelCase(bool sharesNorm) {
    const NormDescription first{"norm", kHidden,        NormKind::Layer,
                                0.1,    Stream::Hidden, sharesNorm ? Stream::Kept : Stream::Input};
    const NormDescription second{"norm2", kHidden, NormKind::Layer, 0.1, Stream::Hidden, Stream::Kept};
    MlpDescription one = std::get<MlpDescription>(mlpCase("", ActivationFunction::Silu, true).layer.blocks[0]), other = one;
    one.from = sharesNorm ? Stream::Kept : Stream::Input;
    other.from = Stream::Kept;
    LayerDescription layer{{first}};
    if (!sharesNorm) layer.blocks.emplace_back(second);
    for (const BlockDescription& block : {BlockDescription(one), BlockDescription(AddDescription{}), BlockDescription(other),
                                          BlockDescription(AddDescription{})})
        layer.blocks.push_back(block);
    return {sharesNorm ? "parallel_shared_norm" : "parallel_two_norms", layer, [=](const at::Tensor& x, const Leaves& w) {
                const auto mlp = [&](const at::Tensor& y, std::size_t at) {
                    return linearOf(activated(ActivationFunction::Silu, linearOf(y, w[at]), w) * linearOf(y, w[at + 1]),
                                    w[at + 2]);
                };
                const std::size_t norms = sharesNorm ? 1 : 2;
                return x + mlp(normOf(first, x, w[0]), norms) + mlp(normOf(second, x, w[norms - 1]), norms + 3);
            }};
}

std::vector<BlockCase> allCases() {
    using enum ActivationFunction;
    return {normCase("rms", NormKind::Rms),
            normCase("rms_rounded_once", NormKind::RmsRoundedOnce),
            normCase("rms_shifted", NormKind::RmsShifted),
            normCase("layer_norm", NormKind::Layer),
            normCase("layer_norm_shifted", NormKind::LayerShifted),
            mlpCase("silu_gated", Silu, true),
            mlpCase("gelu_tanh_gated_fused", GeluTanh, true, true),
            mlpCase("gelu_plain", Gelu, false),
            mlpCase("gelu_tanh_plain", GeluTanh, false),
            mlpCase("relu_plain", Relu, false),
            mlpCase("squared_relu_plain", SquaredRelu, false),
            mlpCase("xielu_plain", Xielu, false),
            mlpCase("xielu_gated", Xielu, true),
            attentionCase({.name = "attention"}),
            attentionCase({.name = "attention_window", .window = 3}),
            attentionCase({.name = "attention_unrotated", .rotates = false}),
            attentionCase({.name = "attention_interleaved", .isInterleaved = true}),
            attentionCase({.name = "attention_interleaved_partial", .isInterleaved = true, .share = 0.5}),
            attentionCase({.name = "attention_partial", .share = 0.5}),
            attentionCase({.name = "attention_concatenated", .fusion = Fusion::Concatenated}),
            attentionCase({.name = "attention_by_key_head", .fusion = Fusion::ByKeyHead}),
            attentionCase({.name = "attention_head_norms", .normalises = true}),
            attentionCase({.name = "attention_head_norms_behind_rotation", .normalises = true, .isRotated = true}),
            attentionCase({.name = "attention_norms_of_each_head", .normalises = true, .isEach = true}),
            attentionCase({.name = "attention_whole_norms", .normalises = true, .isWhole = true}),
            parallelCase(true),
            parallelCase(false)};
}

// ---- the test

class GradientsByName : public GradientObserver {
public:
    void observe(const std::string& parameter, at::IntArrayRef sizes, std::int64_t firstRow,
                 const at::Tensor& gradient) override {
        at::Tensor& whole = found[parameter];
        if (!whole.defined()) whole = at::zeros(sizes, at::kDouble);
        whole.narrow(0, firstRow, gradient.size(0)).copy_(gradient);
    }
    void observeRows(const std::string&, std::int64_t, const at::Tensor&, const at::Tensor&) override {}

    std::map<std::string, at::Tensor> found;
};

/// The largest difference, as a share of the largest magnitude; that of a bias that makes no difference is nearly 0.
double shareOfLargest(const at::Tensor& got, const at::Tensor& expected) {
    const double largest = std::max(expected.abs().max().item<double>(), 0.1);
    return (got.to(at::kDouble) - expected).abs().max().item<double>() / largest;
}

class BlockTest : public testing::TestWithParam<std::tuple<BlockCase, at::ScalarType>> {};

TEST_P(BlockTest, ForwardAndBackwardAreThoseOfFloat64) {
    const auto& [block, dtype] = GetParam();
    // Of bfloat16, 8 significant bits: a handful of roundings in a row, and sums of them.
    const double tolerance = dtype == at::kFloat ? 1e-5 : 0.06;
    at::manual_seed(5);
    const std::vector<ModuleDescription> modules = block.layer.modules();
    const auto rounded = [&, type = dtype](const at::Tensor& x) { return x.to(type).to(at::kDouble); };
    Leaves leaves;
    LoadedLayer weights;
    std::vector<at::Tensor> wanted;  // hidden, then weights and biases
    const at::Tensor hidden = rounded(draw({1, kLength, kHidden})).set_requires_grad(true);
    wanted.push_back(hidden);
    for (const ModuleDescription& module : modules) {
        ModuleWeights& leaf = leaves.emplace_back();
        leaf.weight = rounded(draw(module.shape) * (module.isNorm ? 1 : 0.4)).set_requires_grad(true);
        wanted.push_back(leaf.weight);
        if (block.hasBiases && !module.isNumber &&
            (!module.isNorm || modules.size() == 1 || module.name.starts_with("norm"))) {
            leaf.bias = rounded(draw({module.outputs()})).set_requires_grad(true);
            wanted.push_back(leaf.bias);
        }
        weights.push_back(
            {leaf.weight.detach().to(dtype), leaf.bias.defined() ? leaf.bias.detach().to(dtype) : at::Tensor()});
    }
    const at::Tensor gradient = rounded(draw({1, kLength, kHidden}));
    const at::Tensor output = block.reference(hidden, leaves);
    const auto expected = torch::autograd::grad({output}, wanted, {gradient});
    const at::Device cpu(at::kCPU);
    const std::vector<RotaryTables> rotations{makeRotaryTables(rotationOfCase(block.name), kLength, dtype, cpu, "m")};
    const Layer layer(block.layer, rotations);

    LayerState state, plain;
    state.hidden = hidden.detach().to(dtype);
    plain.hidden = state.hidden.clone();
    KeptLayer kept;
    do layer.advance(weights, state, &kept, nullptr);
    while (state.number != 0);
    do layer.advance(weights, plain, nullptr, nullptr);
    while (plain.number != 0);
    GradientsByName gradients;
    const auto nameOf = [](std::size_t module) { return std::to_string(module); };
    const at::Tensor byHidden = layer.backward(weights, kept, gradient.to(dtype), nameOf, &gradients);

    EXPECT_TRUE(plain.hidden.equal(state.hidden));  // whatever is kept
    EXPECT_LT(shareOfLargest(state.hidden, output), tolerance);
    EXPECT_LT(shareOfLargest(byHidden, expected[0]), tolerance);
    std::size_t next = 1;
    for (std::size_t m = 0; m < modules.size(); ++m) {
        const bool isConstant = modules[m].name == "beta" || modules[m].name == "eps";
        const std::string name = std::to_string(m) + (modules[m].isNumber ? "" : ".weight");
        EXPECT_EQ(gradients.found.contains(name), !isConstant) << modules[m].name;
        if (isConstant)
            ++next;
        else
            EXPECT_LT(shareOfLargest(gradients.found[name], expected[next++]), tolerance) << modules[m].name;
        if (!leaves[m].bias.defined()) continue;
        EXPECT_LT(shareOfLargest(gradients.found[std::to_string(m) + ".bias"], expected[next++]), tolerance)
            << modules[m].name;
    }
    EXPECT_EQ(next, expected.size());
}

INSTANTIATE_TEST_SUITE_P(Blocks, BlockTest,
                         testing::Combine(testing::ValuesIn(allCases()), testing::Values(at::kFloat, at::kBFloat16)),
                         [](const auto& info) {
                             const bool isFloat = std::get<1>(info.param) == at::kFloat;
                             return std::get<0>(info.param).name + (isFloat ? "_float32" : "_bfloat16");
                         });

TEST(Layer, OutputsAreWhatTheModulesGave) {
    at::manual_seed(6);
    for (const BlockCase& block : {attentionCase({.name = "attention_by_key_head", .fusion = Fusion::ByKeyHead}),
                                   mlpCase("silu_gated", ActivationFunction::Silu, true)}) {
        LoadedLayer weights;
        for (const ModuleDescription& module : block.layer.modules())
            weights.push_back({draw(module.shape).to(at::kFloat), draw({module.outputs()}).to(at::kFloat)});
        const at::Device cpu(at::kCPU);
        const Layer layer(block.layer, {makeRotaryTables(rotationOfCase(block.name), kLength, at::kFloat, cpu, "m")});
        LayerState state;
        state.hidden = draw({1, kLength, kHidden}).to(at::kFloat);
        std::size_t module = 0;
        for (const InputDescription& input : block.layer.inputs()) {
            const at::Tensor entering = layer.inputAt(state).clone();
            Tensors outputs;

            layer.advance(weights, state, nullptr, &outputs);

            ASSERT_EQ(outputs.size(), input.modules) << block.name;
            for (const at::Tensor& output : outputs)
                EXPECT_TRUE(at::allclose(output, linearOf(entering, weights[module++]), 1e-5, 1e-5)) << block.name;
        }
    }
}

TEST(Layer, XieluRunsInInferenceModeOnSeveralThreads) {
    at::manual_seed(7);
    const int before = at::get_num_threads();
    at::set_num_threads(2);
    LoadedLayer numbers;
    Leaves leaves;
    for (const double number : {0.8, 0.6, 0.5, -1e-6}) {
        leaves.push_back({at::full({1}, number, at::kDouble), {}});
        numbers.push_back({leaves.back().weight.to(at::kFloat), {}});
    }
    const c10::InferenceMode inference;
    const at::Tensor entering = draw({64, 1024});  // several parts for each thread
    at::Tensor x = entering.to(at::kFloat);

    Xielu(numbers).apply(x);

    EXPECT_TRUE(at::allclose(x.to(at::kDouble), xielu(entering, leaves), 1e-5, 1e-5));
    at::set_num_threads(before);
}

TEST(Layer, MatricesStoredInputFirstGiveTheSame) {
    at::manual_seed(7);
    BlockCase block = mlpCase("gelu_plain", ActivationFunction::Gelu, false);
    LayerDescription turned = block.layer;
    auto& mlp = std::get<MlpDescription>(turned.blocks[0]);
    for (ModuleDescription* module : {&mlp.projections[0], &mlp.output})
        *module = {.name = module->name, .shape = {module->shape[1], module->shape[0]}, .isInputMajor = true};
    LoadedLayer weights, turnedWeights;
    for (const ModuleDescription& module : block.layer.modules()) {
        weights.push_back({draw(module.shape).to(at::kFloat), draw({module.outputs()}).to(at::kFloat)});
        turnedWeights.push_back({weights.back().weight.t().contiguous(), weights.back().bias});
    }
    const at::Tensor hidden = draw({1, kLength, kHidden}).to(at::kFloat),
                     gradient = draw({1, kLength, kHidden}).to(at::kFloat);
    const auto run = [&](const LayerDescription& description, const LoadedLayer& loaded, GradientsByName& gradients) {
        const Layer layer(description, {});
        LayerState state;
        state.hidden = hidden.clone();
        KeptLayer kept;
        do layer.advance(loaded, state, &kept, nullptr);
        while (state.number != 0);
        layer.backward(
            loaded, kept, gradient, [](std::size_t m) { return std::to_string(m); }, &gradients);
        return state.hidden;
    };
    GradientsByName gradients, turnedGradients;

    const at::Tensor output = run(block.layer, weights, gradients), other = run(turned, turnedWeights, turnedGradients);

    EXPECT_TRUE(at::allclose(output, other, 1e-5, 1e-5));
    for (const char* name : {"0.weight", "1.weight"})
        EXPECT_TRUE(at::allclose(gradients.found[name].t(), turnedGradients.found[name], 1e-4, 1e-4)) << name;
    EXPECT_TRUE(at::allclose(gradients.found["1.bias"], turnedGradients.found["1.bias"], 1e-5, 1e-5));
}

}  // namespace
}  // namespace aimerge
