#pragma once
// Everything about a merge that follows from its config and the checkpoints' headers. Every rank makes it from the same
// text, so it is the same everywhere and is not sent.

#include "job/featcal_models.h"

#include "aimerge/checkpoint/model_set.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/distributed/plan.h"
#include "aimerge/merge/method.h"
#include "aimerge/safetensors/shard_layout.h"
#include "aimerge/vocabulary/vocabulary_alignment.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace aimerge {

/// One checkpoint that the merge writes.
struct OutputPoint {
    std::string folder;           // below --out: "" alone, "omega-0.4" when omega is a list
    std::optional<double> omega;  // absent without AIM, and where every tensor has its own
};

struct MergeJob {
    MergeConfig config;
    const Method* method = nullptr;
    ModelSet models;
    std::vector<MatchedTensor> tensors;
    std::optional<VocabularyAlignment> vocabulary;  // absent when the models have no vocabulary tensors
    std::optional<std::string> chatTemplate;        // absent: as the tokenizer's files have it
    std::vector<OutputTensor> outputs;              // as `tensors`
    std::vector<OutputPoint> points;
    ShardLayout layout;  // the same for every point
    std::optional<FeatcalModels> featcal;

    Dtype outputDtype() const;  // what config.json says
    /// Index of every model that is not base_model, in the order of the config.
    std::vector<std::size_t> experts() const;
    std::vector<const Checkpoint*> expertCheckpoints() const;
    /// Every model that is read: those of the merge, and those that take part in a fit alone.
    std::vector<const Checkpoint*> checkpoints() const;
    /// The values of omega of the point's tensors; empty without AIM.
    std::set<double> omegasOf(const OutputPoint& point) const;
    /// The revisions (core/revision.h) of what the output's values are made of, by kind; those of a given log are its own.
    std::map<std::string, int> revisions() const;
    /// Layer n of the output is layer n of every model.
    bool mergesWholeModels() const { return config.slices.size() == 1 && config.slices.front().wholeModels; }
    /// Rows of tokens change places in some model.
    bool realignsVocabulary() const;
    /// Its calibration is part of the merge.
    bool isSequential() const { return config.aim && config.aim->calibration.sequential; }
    const Checkpoint& base() const { return models.models.at(models.referenceIndex()); }
};

/// Opens and validates everything; reads no weight.
/// @pre checkMergeConfig() has let the config pass, as shareConfigs() makes sure
/// @throws UsageError, InputError
MergeJob openMergeJob(MergeConfig config, std::uint64_t maxShardBytes);

/// Digest of everything that decides the output's bytes, for recognising an unfinished output of the same job.
/// @param statisticsDigest empty without AIM
/// @param expertKeys which statistics of experts are used; empty when the method needs none
std::string jobDigest(const MergeJob& job, const std::string& statisticsDigest, const std::string& expertKeys);

}  // namespace aimerge
