#pragma once
// Activation statistics of a base model: for every module with a weight, one number per input channel.

#include "aimerge/config/merge_config.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// Statistics of the input x of one module over the tokens that came to it. Each vector has shape [in_features], and of
/// fused experts, which are one tensor in the file and go to each token in part, [experts, in_features], row by row.
struct ModuleStatistics {
    std::vector<float> meanAbs;                   // mean |x|
    std::vector<float> rms;                       // sqrt(mean x^2)
    std::vector<float> maxAbs;                    // max |x|
    std::int64_t tokens = 0;                      // of fused experts the sum of expertTokens
    std::int64_t experts = 0;                     // 0: a plain module
    std::vector<std::int64_t> expertTokens = {};  // [experts]; an expert to which none came has zeros
    int inputAxis = -1;  // of the stored weight, counted from its end: -1 ([out, in]) or -2 ([in, out])

    bool isFused() const { return experts > 0; }
    /// in_features
    std::size_t channels() const { return isFused() ? meanAbs.size() / static_cast<std::size_t>(experts) : meanAbs.size(); }
    /// @pre one of the three, or Wanda, whose part it is that the input has: rms
    const std::vector<float>& values(Statistic statistic) const;
    /// One line saying which of the shapes and counts above contradict each other, or which axis is none; nothing when all
    /// is sound. The values themselves are not looked at.
    std::optional<std::string> inconsistency() const;
    bool operator==(const ModuleStatistics&) const = default;
};

/// Keyed by module name: "model.layers.0.self_attn.q_proj", "model.norm", "lm_head". Embeddings have no entry.
using StatisticsByModule = std::map<std::string, ModuleStatistics>;

/// What a log has of all the models that are merged. ExpertsMean, ExpertsMax: one for all, value by value, with the most
/// tokens that one of them had. Experts: those of each, with its number behind the module's name, from 1 on:
/// "model.layers.0.self_attn.q_proj@2".
/// @pre at least one model; source is not Base
/// @throws InputError: ExpertsMean or ExpertsMax of models that differ in their modules or in a module's shape
StatisticsByModule combineStatistics(const std::vector<StatisticsByModule>& experts, ActivationSource source);

/// The experts' own again. @throws InputError: a module without the number of an expert
std::vector<StatisticsByModule> separateStatistics(const StatisticsByModule& combined);

/// AIM's importance A = |a| / max |a| in [0, 1], float32 [in_features] (paper Eq. 4); all zeros when the maximum is 0.
std::vector<float> importance(const std::vector<float>& statistic);

/// Where a log came from and what it was taken on: the root attributes of the HDF5 file, and its /base_config.
struct StatisticsOrigin {
    std::string baseModel;       // as the user named it
    std::string baseDigest;      // Checkpoint::contentDigest, hex
    std::string baseFileStamps;  // Checkpoint::fileStamps when the digest was taken
    std::string baseConfig;      // text of its config.json; empty in older logs, and in those of several models combined
    std::string corpus;          // path as given
    std::string tokensDigest;    // digest of the blocks of token ids, hex
    std::int64_t tokens = 0, blocks = 0, blockLength = 0;
    std::string dtype;  // compute dtype, torch name
    std::int64_t microBatch = 1;
    std::string vocabulary;  // free text: how the corpus became blocks (preset, packing, seed)
    std::string device;      // "CPU", or the GPU's name
    int ranks = 1, threadsPerRank = 1;
    std::string machines;  // a line per run of ranks: host, processor, threads; empty in older logs
    std::string commandLine;
    std::string created;        // ISO 8601, UTC
    std::int64_t revision = 0;  // revision::kStatistics of the values; 0: the log does not say
    std::string toolVersion;
};

/// A row of /plan and /timing: what each rank did.
struct StageRecord {
    int rank = 0;
    std::int64_t firstLayer = 0, lastLayer = -1;  // inclusive; lastLayer < firstLayer = no layers
    double forwardSeconds = 0, waitSeconds = 0, readSeconds = 0;
    std::int64_t peakMemoryBytes = 0, peakDeviceBytes = 0;  // of the process; in use on the rank's GPU
    std::int64_t bytesRead = 0, tokens = 0;                 // of weights; through the rank's layers
};

struct StatisticsLog {
    StatisticsOrigin origin;
    StatisticsByModule modules;
    std::vector<StageRecord> stages;
};

}  // namespace aimerge
