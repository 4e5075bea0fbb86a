#include "architecture/decoder_families.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

ActivationFunction activationOf(const KeyReader& config, const DecoderFamily& family, const ModelConfig& sizes) {
    const bool isGated = family.names.gate != nullptr;
    if (sizes.activation == "silu") return ActivationFunction::Silu;
    if (family.geluMeansTanh && sizes.activation == "gelu") return ActivationFunction::GeluTanh;
    if (sizes.activation == "gelu_pytorch_tanh" ||
        (!isGated && (sizes.activation == "gelu_new" || sizes.activation == "gelu_fast")))
        return ActivationFunction::GeluTanh;
    if (!isGated && sizes.activation == "gelu") return ActivationFunction::Gelu;
    if (!isGated && sizes.activation == "relu") return ActivationFunction::Relu;
    if (!isGated && sizes.activation == "relu2") return ActivationFunction::SquaredRelu;
    if (family.names.activation && sizes.activation == "xielu") return ActivationFunction::Xielu;
    config.cannotRun(family.activationKey, sizes.activation,
                     isGated ? "silu and gelu_pytorch_tanh"
                             : "silu, gelu, gelu_new, gelu_pytorch_tanh, relu, relu2, and xielu of apertus");
}

/// @throws InputError
void requireRunnableSizes(const DecoderFamily& family, const KeyReader& config, const ModelConfig& sizes) {
    if (sizes.quantized)
        throw InputError("{}: has a quantization_config; the decoder runs plain floating weights only", config.fileName());
    if (sizes.keyValueHeads < 1 || sizes.heads % sizes.keyValueHeads != 0)
        throw InputError("{}: num_attention_heads {} is no multiple of num_key_value_heads {}", config.fileName(),
                         sizes.heads, sizes.keyValueHeads);
    if (sizes.headDim < 2 || sizes.headDim % 2 != 0)
        throw InputError("{}: head_dim is {}, expected an even number", config.fileName(), sizes.headDim);
    if (family.rotates && !family.rotatesPart && sizes.rope.rotatedShare != 1)
        config.cannotRun("partial_rotary_factor", sizes.rope.rotatedShare,
                         "1 only, but for phi3, glm, glm4, phi, stablelm, gpt_neox, nemotron and persimmon");
}

/// Makes a layer's blocks from a family's names and flags.
class LayerMaker {
public:
    LayerMaker(const DecoderFamily& family, const KeyReader& config, const ModelConfig& sizes)
        : family_(family), sizes_(sizes), activation_(activationOf(config, family, sizes)) {}

    LayerDescription layer(std::size_t number) const {
        AttentionDescription attention = this->attention(number);
        MlpDescription mlp = this->mlp();
        LayerDescription layer;
        if (family_.isParallel) {
            const bool sharesNorm = family_.names.beforeMlp == nullptr;
            layer.blocks.emplace_back(
                norm(family_.names.beforeAttention, Stream::Hidden, sharesNorm ? Stream::Kept : Stream::Input));
            if (!sharesNorm) layer.blocks.emplace_back(norm(family_.names.beforeMlp, Stream::Hidden, Stream::Kept));
            attention.from = sharesNorm ? Stream::Kept : Stream::Input;
            mlp.from = Stream::Kept;
            for (const BlockDescription& block : {BlockDescription(attention), BlockDescription(AddDescription{}),
                                                  BlockDescription(mlp), BlockDescription(AddDescription{})})
                layer.blocks.push_back(block);
            return layer;
        }
        addBranch(layer, family_.names.beforeAttention, attention, family_.names.behindAttention);
        addBranch(layer, family_.names.beforeMlp, mlp, family_.names.behindMlp);
        return layer;
    }

    NormDescription norm(const char* name, Stream from, Stream to) const {
        return {name, sizes_.hiddenSize, family_.norm, sizes_.rmsNormEps, from, to};
    }

private:
    template <typename Block>
    void addBranch(LayerDescription& layer, const char* before, Block block, const char* behind) const {
        if (before) layer.blocks.emplace_back(norm(before, Stream::Hidden, Stream::Input));
        block.from = before ? Stream::Input : Stream::Hidden;
        layer.blocks.emplace_back(std::move(block));
        if (behind) layer.blocks.emplace_back(norm(behind, Stream::Input, Stream::Input));
        layer.blocks.emplace_back(AddDescription{});
    }

    ModuleDescription linear(const char* name, std::int64_t outputs, std::int64_t inputs) const {
        if (family_.isInputMajor) return {.name = name, .shape = {inputs, outputs}, .isInputMajor = true};
        return {.name = name, .shape = {outputs, inputs}};
    }

    AttentionDescription attention(std::size_t number) const {
        const LayerNames& names = family_.names;
        AttentionDescription attention{
            .heads = sizes_.heads, .keyValueHeads = sizes_.keyValueHeads, .headDim = sizes_.headDim};
        const std::int64_t hidden = sizes_.hiddenSize, queries = attention.queryChannels(), keys = attention.keyChannels();
        attention.fusion = family_.fusion;
        if (family_.fusion == Fusion::None)
            attention.projections = {linear(names.query, queries, hidden), linear(names.key, keys, hidden),
                                     linear(names.value, keys, hidden)};
        else
            attention.projections = {linear(names.attention, queries + 2 * keys, hidden)};
        if (names.queryNorm) {
            const bool isWhole = family_.normalisesWholeWidth;
            attention.queryNorm = headNorm(names.queryNorm, isWhole ? queries : sizes_.headDim);
            attention.keyNorm = headNorm(names.keyNorm, isWhole ? keys : sizes_.headDim);
            attention.normalisesRotated = family_.normalisesRotated;
        }
        if (family_.rotates) attention.rotation = 0;
        const double divisor = sizes_.attentionScalar > 0 ? sizes_.attentionScalar : static_cast<double>(sizes_.headDim);
        attention.scale = 1 / std::sqrt(divisor);
        attention.softcap = sizes_.attentionSoftcap;
        attention.window = sizes_.windows.empty() ? 0 : sizes_.windows[number];
        attention.output = linear(names.output, hidden, queries);
        return attention;
    }

    ModuleDescription number(const char* name, std::vector<std::int64_t> shape) const {
        return {.name = std::string(family_.names.activation) + "." + name, .shape = std::move(shape), .isNumber = true};
    }

    NormDescription headNorm(const char* name, std::int64_t channels) const {
        return {name, channels, family_.norm, sizes_.rmsNormEps, Stream::Input, Stream::Input};
    }

    MlpDescription mlp() const {
        const LayerNames& names = family_.names;
        const std::int64_t hidden = sizes_.hiddenSize, inner = sizes_.intermediateSize;
        MlpDescription mlp{.inner = inner, .isGated = names.gate != nullptr};
        if (names.mlp)
            mlp.projections = {linear(names.mlp, 2 * inner, hidden)};
        else if (mlp.isGated)
            mlp.projections = {linear(names.gate, inner, hidden), linear(names.up, inner, hidden)};
        else
            mlp.projections = {linear(names.up, inner, hidden)};
        mlp.activation = activation_;
        mlp.output = linear(names.down, hidden, inner);
        if (activation_ == ActivationFunction::Xielu)
            mlp.numbers = {number("alpha_p", {1}), number("alpha_n", {1}), number("beta", {}), number("eps", {})};
        return mlp;
    }

    const DecoderFamily& family_;
    const ModelConfig& sizes_;
    ActivationFunction activation_;
};

}  // namespace

DecoderDescription describeDecoder(const DecoderFamily& family, const KeyReader& config, const ModelConfig& sizes) {
    requireRunnableSizes(family, config, sizes);
    const LayerMaker maker(family, config, sizes);
    DecoderDescription decoder{.layerPrefix = family.layers, .embedding = family.embedding, .head = family.head};
    decoder.finalNorm = maker.norm(family.finalNorm, Stream::Hidden, Stream::Input);
    decoder.logitSoftcap = sizes.logitSoftcap;
    if (family.rotates)
        decoder.rotations = {{sizes.ropeTheta, sizes.rope, sizes.headDim, sizes.maxPositions, family.rotatesInterleaved}};
    for (std::size_t layer = 0; std::cmp_less(layer, sizes.layers); ++layer) decoder.layers.push_back(maker.layer(layer));
    if (family.adjust) family.adjust(config, sizes, decoder);
    return decoder;
}

}  // namespace aimerge
