#pragma once
// The models of one merge, opened and checked to fit together, and which of their tensors belong to one output tensor.
// Headers only: no weight is read here.

#include "aimerge/architecture/architecture.h"
#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/config/merge_config.h"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// One model's part in a slice: the slice's layer l is layer firstLayer + l of the model.
struct SliceInput {
    std::size_t model = 0;  // in ModelSet::models
    std::int64_t firstLayer = 0;
};

/// What a module of the config is made from: one stack of layers and what stands before and behind it, or all of the model.
struct ModelModule {
    std::optional<std::size_t> stack = {};  // of the reference's architecture; nullopt: what no other module has
    std::size_t firstSlice = 0, slices = 0;
    bool wholeModels = true;  // its only slice is whole models: layer n of the output is layer n of every input
    bool isCopied = false;    // the config does not have it: it is the reference's, as it stands
};

/// A slice of the config, its models and layers found.
struct ModelSlice {
    std::vector<SliceInput> inputs;             // as the config's sources; a base that is none of them comes last
    std::optional<std::size_t> baseInput = {};  // of the slice's base in `inputs`
    bool baseIsListed = true;                   // an input for methods without a special base: a source, or of `models:`
    std::size_t module = 0;                     // in ModelSet::modules
    std::int64_t firstLayer = 0;                // of the output's stack
    std::int64_t layers = 0;                    // of a module without a stack 0

    /// The input whose tensors the output has: the base, else the first source.
    std::size_t referenceInput() const { return baseInput.value_or(0); }
};

struct ModelSet {
    std::vector<Checkpoint> models;        // in the order the config first names them; bases that are no source come last
    std::optional<std::size_t> baseIndex;  // of base_model, when the config has one
    std::vector<ModelSlice> slices;        // as the config's; those of modules that it does not have come last
    std::vector<ModelModule> modules;      // as the config's, likewise
    Architecture output;                   // of the merged model
    bool allowsCrimes = false;             // MergeConfig::allowsCrimes

    /// Opens every model once, adapters over the base of the slice that names them, and checks that they are of one
    /// architecture with the same sizes and heads, that none is quantised, that each has the weights its config.json speaks
    /// of, that the slices fit their layers, and that layers stay what they are at their new places. Tensors that another
    /// version or tool named otherwise get the reference's names, with a notice. Differences that the merge survives
    /// (rope_theta, rms_norm_eps, rope type) are warnings. A module may take models of another class that have the same
    /// stack: a text model gives the text decoder of a multimodal one. With MergeConfig::allowsCrimes other classes and
    /// sizes in config.json are warnings: names and shapes of the tensors decide what fits.
    /// @pre the config has at least one slice
    /// @throws InputError naming the model, the key, and both values; UsageError with the mark: a layer_range beyond the
    ///         model, sources of one slice with different numbers of layers, slices of a model with several stacks, an
    ///         unknown module, layers whose kind follows from their number
    static ModelSet open(const MergeConfig& config);

    /// The model that gives the output its config, its tensor names and its unmerged tensors: the
    /// base, else the first listed.
    std::size_t referenceIndex() const { return baseIndex.value_or(0); }
    const Checkpoint& reference() const { return models.at(referenceIndex()); }

    /// The module that a tensor of the reference, or of the output, is part of. In ModelSet::modules.
    std::size_t moduleOf(const Place& place) const;

    /// The slice that has what is behind the layers of the first stack: final norm and head.
    const ModelSlice& lastSlice() const;

    /// True when any model of lastSlice() stores a head of its own: the output then has one, and its config must say
    /// tie_word_embeddings false.
    bool headIsWritten() const;
};

/// The stack whose layers are called as those of another model's stack; null where there is none.
const Stack* findStackLike(const Architecture& architecture, const Stack& other);

/// The tensor that a model gives for a name: for the head of a model that stores none, its
/// embedding. nullptr when it has none.
const TensorInfo* storedTensor(const Checkpoint& model, const std::string& name);

/// A tensor of a model of a ModelSet.
struct MatchedInput {
    std::size_t model = 0;
    const TensorInfo* tensor = nullptr;  // points into the checkpoint; nullptr: the model has none

    bool operator==(const MatchedInput&) const = default;
};

/// One output tensor and where its inputs lie.
struct MatchedTensor {
    enum class Action {
        Merge,
        CopyFromBase,  // only the slice's reference has it; the other inputs are null
        CopyIdentical  // not of a floating type: must have the same bytes in every input, which the reader checks
    };

    std::string name;
    Action action = Action::Merge;
    std::size_t slice = 0;     // in ModelSet::slices. What stands before the layers belongs to the first of its module, what
                               // is behind them to the last one
    double depth = 0;          // depthOfLayer() within the slice, or the stack; 1 for layers of multi-token prediction
    Parameter parameter = {};  // of the reference's shape

    /// As ModelSlice::inputs. Shapes are equal, but for the rows of vocabulary tensors. For the head, models that do not
    /// store it have their embedding here. Of a tensor that is merged, the reference is there; others are null only with
    /// ModelSet::allowsCrimes.
    std::vector<MatchedInput> inputs;
};

/// All output tensors, in model order, with layers renumbered consecutively over the slices of their module. Buffers that
/// every loader derives (rotary_emb.inv_freq and the like) are left out with a notice; tensors that only the reference of a
/// slice has are copied with a warning, and so are layers of multi-token prediction that an input has not. Such layers that
/// the reference has not are left out with a warning. With ModelSet::allowsCrimes a tensor that some models have not is
/// merged from those that have it, and one that the reference has not is left out, as mergekit does; both with a warning.
/// @throws InputError naming tensor and models: not in the reference, missing in some, shapes or kinds of dtype differ, a
///         floating type that cannot be merged (8 bit)
std::vector<MatchedTensor> matchTensors(const ModelSet& set);

}  // namespace aimerge
