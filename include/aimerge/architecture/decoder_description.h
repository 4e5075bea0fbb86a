#pragma once
// What a decoder computes, as data made from config.json: which blocks every layer has, how they are joined, and which
// modules of the checkpoint are theirs. Whoever plans, estimates or asks whether a model can be run needs no libtorch for it;
// src/model runs it, a block's forward and backward pass beside each other.

#include "aimerge/architecture/rotation.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace aimerge {

/// A norm, a linear layer, or a single number.
struct ModuleDescription {
    std::string name;                 // behind the layer's number: "self_attn.q_proj"
    std::vector<std::int64_t> shape;  // of its weight
    bool isNorm = false;
    bool isNumber = false;      // its name is that of a tensor of one element; sequences do not stop before it
    bool isInputMajor = false;  // a matrix stored as [in, out]

    std::int64_t inputs() const { return isInputMajor ? shape.front() : shape.back(); }
    std::int64_t outputs() const { return isInputMajor ? shape.back() : shape.front(); }
    std::int64_t elements() const;
};

/// What flows through a layer, besides attention's queries, keys and values.
enum class Stream {
    Hidden,  // the sum of what all branches gave so far
    Input,   // a branch on its way
    Kept     // what the second of two parallel branches begins with
};

enum class NormKind {
    Rms,             // weight * round(x / rms(x))
    RmsRoundedOnce,  // round(weight * x / rms(x))
    RmsShifted,      // round((1 + weight) * x / rms(x))
    Layer,           // layer norm, with a bias where the file has one
    LayerShifted     // layer norm with 1 + weight
};

struct NormDescription {
    std::string name;
    std::int64_t channels = 0;
    NormKind kind = NormKind::Rms;
    double eps = 1e-6;
    Stream from = Stream::Hidden, to = Stream::Input;

    ModuleDescription module() const { return {name, {channels}, true}; }
};

/// How a matrix for queries, keys and values has its output channels.
enum class Fusion {
    None,          // three matrices
    Concatenated,  // all queries, all keys, all values
    ByKeyHead      // for one key head after another: its queries, its key, its value
};

/// A norm within attention, and the channels of all queries or keys that go through it.
struct HeadNorm {
    NormDescription norm;
    bool isOfQueries = true;
    std::int64_t first = 0, channels = 0;
};

/// Causal self-attention: from what enters the projections to what leaves the output's.
struct AttentionDescription {
    std::int64_t heads = 0, keyValueHeads = 0, headDim = 0;
    Fusion fusion = Fusion::None;
    std::vector<ModuleDescription> projections = {};  // of queries, keys and values, or of all three
    std::optional<NormDescription> queryNorm = {},
                                   keyNorm = {};  // over each head, or over all heads if they have as many channels
    bool normalisesEachHead = false;              // a head has a norm of its own, the name's ".0", ".1", ..
    bool normalisesRotated = false;               // these norms come behind the rotation
    std::optional<std::size_t> rotation = {};     // in DecoderDescription::rotations
    double scale = 1;                             // of a query's product with a key
    double softcap = 0;                           // of these products, scaled; 0: none
    std::int64_t window = 0;                      // tokens that a token sees, itself included; 0: all before it
    ModuleDescription output = {};
    Stream from = Stream::Input;

    std::int64_t queryChannels() const { return heads * headDim; }
    std::int64_t keyChannels() const { return keyValueHeads * headDim; }
    std::vector<HeadNorm> headNorms() const;  // in the order in which sequences come to them
};

/// SquaredRelu: relu(x)^2. Xielu, with alpha_p, alpha_n, beta and eps: softplus(alpha_p) x^2 + beta x where x > 0, else
/// (beta + softplus(alpha_n)) (exp(min(x, eps)) - 1 - x) + beta x.
enum class ActivationFunction { Silu, GeluTanh, Gelu, Relu, SquaredRelu, Xielu };

/// down(f(gate(x)) * up(x)), or down(f(up(x))).
struct MlpDescription {
    std::int64_t inner = 0;
    bool isGated = true;
    std::vector<ModuleDescription> projections = {};  // gate and up, both in one, or up alone
    ActivationFunction activation = ActivationFunction::Silu;
    ModuleDescription output = {};
    std::vector<ModuleDescription> numbers = {};  // of the activation function, in the order of its comment
    Stream from = Stream::Input;
};

/// Hidden + factor * Input becomes Hidden.
struct AddDescription {
    double factor = 1;
};

using BlockDescription = std::variant<NormDescription, AttentionDescription, MlpDescription, AddDescription>;

/// What enters one norm, or linear layers that share it.
struct InputDescription {
    std::size_t firstModule = 0, modules = 1;  // in LayerDescription::modules()
};

struct LayerDescription {
    std::vector<BlockDescription> blocks;  // in the order in which they run

    std::vector<ModuleDescription> modules() const;  // in the order of the blocks
    std::vector<InputDescription> inputs() const;    // in the order in which sequences come to them

    std::int64_t parameters() const;    // elements of all weights, without biases
    std::int64_t keptPerToken() const;  // elements that are kept of the forward pass for the backward pass
    std::int64_t widestState() const;   // elements per token beside the hidden state, at the widest place between modules
    std::int64_t widestWork() const;    // elements per token at the widest moment of the layer, all streams counted
};

/// Where an activation enters modules: the number of an input of a layer, or, behind the layers, one of these two.
struct ModuleInput {
    std::int64_t layer = 0;
    std::int64_t number = 0;

    auto operator<=>(const ModuleInput&) const = default;  // NOLINT(modernize-use-nullptr): a false alarm of clang-tidy 14
};
inline constexpr ModuleInput kFinalNormInput{-1, 0}, kHeadInput{-1, 1};

/// Learnt positions: row offset + p is added to the embedding of the token at position p.
struct PositionTable {
    std::string name;
    std::int64_t rows = 0, offset = 0;
};

struct DecoderDescription {
    // Names as the checkpoint has them.
    std::string layerPrefix = "model.layers.";
    std::string embedding = "model.embed_tokens.weight";
    std::string head = "lm_head";
    NormDescription finalNorm = {};  // with its whole name
    std::optional<PositionTable> positions = {};

    double embeddingScale = 1;
    bool roundsEmbeddingScale = false;  // to the compute dtype
    double logitScale = 1;
    double logitSoftcap = 0;         // 0: none
    std::int64_t mostPositions = 0;  // longer sequences are not run; 0: as long as ModelConfig::maxPositions says
    std::vector<Rotation> rotations = {};
    std::vector<LayerDescription> layers = {};

    std::string moduleName(std::int64_t layer, const ModuleDescription& module) const;
    /// The first of the modules of an input of a layer.
    ModuleDescription firstModuleAt(const ModuleInput& input) const;
    /// Whole names of the modules that share an input.
    std::vector<std::string> modulesAt(const ModuleInput& input) const;
    bool isNormAt(const ModuleInput& input) const;
    /// In the weights there, counted from the end: -1 ([out, in]) or -2 ([in, out]).
    int inputAxisAt(const ModuleInput& input) const;

    /// The most of any layer.
    std::int64_t mostOfLayer(std::int64_t (LayerDescription::*quantity)() const) const;
    /// Takes names from a checkpoint of the same model: another root, for the text decoder of a model of several parts.
    void takeNames(const std::string& prefixOfLayers, const std::string& embeddingName, const std::string& headName);
};

}  // namespace aimerge
