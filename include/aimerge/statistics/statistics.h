#pragma once
// Activation statistics of a base model: for every module with a weight, one number per input channel.

#include "aimerge/config/merge_config.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace aimerge {

/// Statistics of the input x of one module over all tokens; each vector has shape [in_features].
struct ModuleStatistics {
    std::vector<float> meanAbs;  // mean |x|
    std::vector<float> rms;      // sqrt(mean x^2)
    std::vector<float> maxAbs;   // max |x|
    std::int64_t tokens = 0;

    /// @pre one of the three, or Wanda, whose part it is that the input has: rms
    const std::vector<float>& values(Statistic statistic) const;
    bool operator==(const ModuleStatistics&) const = default;
};

/// Keyed by module name: "model.layers.0.self_attn.q_proj", "model.norm", "lm_head". Embeddings have no entry.
using StatisticsByModule = std::map<std::string, ModuleStatistics>;

/// What a log has of all experts. ExpertsMean, ExpertsMax: one for all, channel by channel. Experts: those of each, with its
/// number behind the module's name, from 1 on: "model.layers.0.self_attn.q_proj@2".
/// @pre at least one; the same modules and widths; source is not Base
StatisticsByModule combineStatistics(const std::vector<StatisticsByModule>& experts, ActivationSource source);

/// The experts' own again. @throws InputError: a module without the number of an expert
std::vector<StatisticsByModule> separateStatistics(const StatisticsByModule& combined);

/// AIM's importance A = |a| / max |a| in [0, 1], float32 [in_features] (paper Eq. 4); all zeros when the maximum is 0.
std::vector<float> importance(const std::vector<float>& statistic);

/// Where a log came from and what it was taken on: the root attributes of the HDF5 file.
struct StatisticsOrigin {
    std::string baseModel;       // as the user named it
    std::string baseDigest;      // Checkpoint::contentDigest, hex
    std::string baseFileStamps;  // Checkpoint::fileStamps when the digest was taken
    std::string corpus;          // path as given
    std::string tokensDigest;    // digest of the blocks of token ids, hex
    std::int64_t tokens = 0, blocks = 0, blockLength = 0;
    std::string dtype;  // compute dtype, torch name
    std::int64_t microBatch = 1;
    std::string vocabulary;  // free text: how the corpus became blocks (preset, packing, seed)
    std::string device;      // "CPU", or the GPU's name
    int ranks = 1, threadsPerRank = 1;
    std::string commandLine;
    std::string created;  // ISO 8601, UTC
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
