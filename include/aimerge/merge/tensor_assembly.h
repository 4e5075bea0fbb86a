#pragma once
// From a matched tensor of a model set to what the executor takes: sources, parameter values, importance. Reads no weight,
// but for vocabulary tensors whose padding row is a mean.

#include "aimerge/checkpoint/model_set.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/merge/expert_statistics.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/safetensors/shard_layout.h"
#include "aimerge/statistics/statistics.h"
#include "aimerge/vocabulary/vocabulary_alignment.h"

#include <optional>
#include <span>
#include <vector>

namespace aimerge {

/// What was measured for AIM.
struct Activity {
    std::span<const StatisticsByModule> statistics;  // one; or those of each expert, for AimConfig::relaxesExperts()
    const ExpertStatistics* sensitivity = nullptr;   // of every parameter; for AimConfig::usesSensitivity()
    std::optional<double> omega = {};                // by which experts are relaxed one by one; else the executor's points
};

/// @pre matched.action is Merge
/// @param output the same tensor's name, shape and dtype in the output
/// @param alignment null when every model's vocabulary tensors are taken as they are
/// @param activity null without AIM; @pre config.aim and a base in every slice otherwise
/// @param experts what the method needs to know, one per model of the set; not looked at when it needs nothing
/// @throws UsageError: a required parameter has no value for this tensor, or its values cannot be used;
///         InputError: no statistics for a weight that is to be relaxed, or of an expert
TensorMerge assembleMerge(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const OutputTensor& output, const VocabularyAlignment* alignment,
                          const Activity* activity, std::span<const ExpertStatistics> experts);

/// The name along whose activations a tensor is relaxed: the base's, which counts its layers by itself.
/// @pre the slice of the tensor has a base
std::string nameInBase(const ModelSet& models, const MatchedTensor& matched);

/// The omega that the config gives this tensor, by its name in the output and its depth; nullopt when all points' are for
/// every tensor.
std::optional<double> tensorOmega(const AimConfig& aim, const MatchedTensor& matched);

/// The parameter values of assembleMerge, which need neither weights nor statistics; per input as methodInputs() lists them.
/// @throws UsageError, as assembleMerge
ResolvedParameters tensorParameters(const Method& method, const MergeConfig& config, const ModelSet& models,
                                    const MatchedTensor& matched);

/// How the values of inputs are read by the merge of a tensor.
struct InputReading {
    std::vector<std::size_t> inputs;  // of matched.inputs; where vocabularies are aligned, a part of what is read
    Reading reading = Reading::Once;
    bool endsWithOnePass = true;  // when it has been prepared, every byte is read once
};
InputReading inputReading(const Method& method, const MergeConfig& config, const ModelSet& models,
                          const MatchedTensor& matched, const VocabularyAlignment* alignment);

/// @pre matched.action is not Merge
TensorCopy assembleCopy(const ModelSet& models, const MatchedTensor& matched, const OutputTensor& output);

}  // namespace aimerge
