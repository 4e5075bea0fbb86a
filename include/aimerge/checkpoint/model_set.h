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

struct ModelSet {
    std::vector<Checkpoint> models;        // as `models:` lists them; a base_model that is not listed comes last
    std::optional<std::size_t> baseIndex;  // of base_model, when the config has one

    /// Opens every model once, adapters over the base model, and checks that they are of one architecture with the same
    /// layers, sizes and heads, that none is quantised, and that each has the weights its config.json speaks of. Differences
    /// that the merge survives (rope_theta, rms_norm_eps, rope type) are warnings.
    /// @pre the config has at least one model
    /// @throws InputError naming the model, the key, and both values
    static ModelSet open(const MergeConfig& config);

    /// The model that gives the output its config, its tensor names and its unmerged tensors: the base, else the first
    /// listed.
    std::size_t referenceIndex() const { return baseIndex.value_or(0); }
    const Checkpoint& reference() const { return models.at(referenceIndex()); }

    /// True when any model stores lm_head.weight: the output then has one, and its config must say tie_word_embeddings
    /// false.
    bool headIsWritten() const;
};

/// One output tensor and where its inputs lie.
struct MatchedTensor {
    enum class Action {
        Merge,
        CopyFromBase,  // only the reference model has it; the other inputs are null
        CopyIdentical  // not of a floating type: must have the same bytes in every input, which the reader checks
    };

    std::string name;
    Action action = Action::Merge;

    /// One per model, in the order of ModelSet::models; they point into the checkpoints. Shapes are equal, but for the rows
    /// of vocabulary tensors. For lm_head.weight, models that do not store it have their model.embed_tokens.weight here.
    std::vector<const TensorInfo*> inputs;
};

/// All output tensors, in model order. Buffers that every loader derives (rotary_emb.inv_freq and the like) are left out
/// with a notice; tensors that only the reference model has are copied with a warning.
/// @throws InputError naming tensor and models: only in an expert, missing in some, shapes or kinds of dtype differ, a
///         floating type that cannot be merged (8 bit)
std::vector<MatchedTensor> matchTensors(const ModelSet& set);

}  // namespace aimerge
