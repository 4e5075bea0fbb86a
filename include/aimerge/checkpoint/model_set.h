#pragma once
// The models of one merge, opened and checked to fit together, and which of their tensors belong to one output tensor.
// Headers only: no weight is read here.

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

/// A slice of the config, its models and layers found.
struct ModelSlice {
    std::vector<SliceInput> inputs;             // as the config's sources; a base that is none of them comes last
    std::optional<std::size_t> baseInput = {};  // of the slice's base in `inputs`
    bool baseIsListed = true;                   // an input for methods without a special base: a source, or of `models:`
    std::int64_t firstLayer = 0;                // of the output
    std::int64_t layers = 0;

    /// The input whose tensors the output has: the base, else the first source.
    std::size_t referenceInput() const { return baseInput.value_or(0); }
};

struct ModelSet {
    std::vector<Checkpoint> models;        // in the order the config first names them; bases that are no source come last
    std::optional<std::size_t> baseIndex;  // of base_model, when the config has one
    std::vector<ModelSlice> slices;        // as the config's

    /// Opens every model once, adapters over the base of the slice that names them, and checks that they are of one
    /// architecture with the same sizes and heads, that none is quantised, that each has the weights its config.json speaks
    /// of, and that the slices fit their layers. Differences that the merge survives (rope_theta, rms_norm_eps, rope type)
    /// are warnings.
    /// @pre the config has at least one slice
    /// @throws InputError naming the model, the key, and both values; UsageError with the mark: a layer_range beyond the
    ///         model, sources of one slice with different numbers of layers
    static ModelSet open(const MergeConfig& config);

    std::int64_t outputLayers() const { return slices.back().firstLayer + slices.back().layers; }

    /// The model that gives the output its config, its tensor names and its unmerged tensors: the base, else the first
    /// listed.
    std::size_t referenceIndex() const { return baseIndex.value_or(0); }
    const Checkpoint& reference() const { return models.at(referenceIndex()); }

    /// True when any model of the last slice stores lm_head.weight: the output then has one, and its config must say
    /// tie_word_embeddings false.
    bool headIsWritten() const;
};

/// The tensor that a model gives for a name: for lm_head.weight of a model that stores none, its embedding. nullptr when it
/// has none.
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
    std::size_t slice = 0;  // in ModelSet::slices. Embeddings belong to the first, final norm and lm_head to the last one
    double depth = 0;       // depthOfLayer() within the slice

    /// As ModelSlice::inputs. Shapes are equal, but for the rows of vocabulary tensors. For lm_head.weight, models that do
    /// not store it have their model.embed_tokens.weight here.
    std::vector<MatchedInput> inputs;
};

/// All output tensors, in model order, with layers renumbered consecutively over the slices. Buffers that every loader
/// derives (rotary_emb.inv_freq and the like) are left out with a notice; tensors that only the reference of a slice has are
/// copied with a warning.
/// @throws InputError naming tensor and models: not in the reference, missing in some, shapes or kinds of dtype differ, a
///         floating type that cannot be merged (8 bit)
std::vector<MatchedTensor> matchTensors(const ModelSet& set);

}  // namespace aimerge
