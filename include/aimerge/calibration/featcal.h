#pragma once
// Feature calibration of a merged model (FeatCal, arXiv 2605.13030): layer by layer, in forward order, the weights are
// solved for with which the inputs of the merged model give what the experts compute on their own texts. Of the modules that
// share an input x_s of the merged model, fitted so far (q, k and v; then o; then gate and up; then down):
//
//     W^T = (sum_i w_i C_i / |C_i| + lambda I)^-1 (sum_i w_i X_i / |C_i| + lambda (rho W_merged + (1 - rho) W_base)^T)
//     C_i = mean x_s x_s^T,   X_i = mean x_s (W_i x_t)^T,   x_t = alpha x_i + (1 - alpha) x_s,   |.|: Frobenius norm
//
// over the tokens of expert i's texts, where x_i is the input of the same module in the expert. Biases and the weights of
// norms follow likewise:
//
//     b = (sum_i c_i (b_i + W_i mean x_t - W mean x_s) + lambda b_0) / (sum_i c_i + lambda),             c_i = w_i / |C_i|
//     g = (sum_i w_i E_i g_i + lambda g_0) / (sum_i w_i E_i + lambda),   E_i = mean z^2,  z = x_s / rms(x_s), per channel
//
// with b_0 and g_0 between the merged model and the base as the weights are. The paper collects a layer's statistics at
// once; here a module sees what the modules before it in the layer have become.

#include "aimerge/checkpoint/weight_source.h"
#include "aimerge/core/progress.h"
#include "aimerge/corpus/token_blocks.h"
#include "aimerge/device/device.h"
#include "aimerge/distributed/world.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// Whose outputs the merged model is to give, and on what.
struct FeatcalTeacher {
    const WeightSource& model;
    const TokenBlocks& blocks;    // the same on every rank
    std::int64_t microBatch = 1;  // sequences per forward step
    double weight = 1;            // w_i, at least 0
};

/// The merged models (points) that are fitted, all by the same teachers, and where the result goes.
class FeatcalTarget {
public:
    virtual ~FeatcalTarget() = default;

    virtual std::size_t points() const = 0;
    /// Whether a linear layer or norm of the layers is fitted; the others keep their merged values.
    virtual bool fits(const std::string& module) const = 0;
    /// The merged embedding, and a merged layer, as they would be stored.
    virtual std::unique_ptr<WeightSource> embedding(std::size_t point) = 0;
    virtual std::unique_ptr<WeightSource> layer(std::size_t point, std::int64_t layer) = 0;
    /// What layer() gives, in float32. Called on rank 0.
    virtual std::unique_ptr<WeightSource> exactLayer(std::size_t point, std::int64_t layer) = 0;

    /// How many layers, from the first on, have everything fitted stored already. Called on rank 0.
    virtual std::int64_t finishedLayers() = 0;
    /// The bytes of a tensor of a finished layer. Called on rank 0.
    virtual std::string stored(std::size_t point, const std::string& tensor) = 0;
    /// A fitted tensor, in the dtype of layer(). Called on every rank.
    virtual void store(std::size_t point, const std::string& tensor, const std::string& bytes) = 0;
};

struct FeatcalJob {
    std::span<const FeatcalTeacher> teachers;
    const WeightSource* base = nullptr;  // read where rho is not 1
    double lambda = 0.01;                // above 0
    double rho = 1, alpha = 1;
    Dtype dtype = Dtype::F32;  // of hidden states, and of the models while they are run: BF16 or F32
    FeatcalTarget& target;
    int threads = 1;
    bool keepsStatesOnDisk = false;  // in environment::scratchDirectory(); on a GPU: in the machine's memory
    ProgressListener progress = {};
    void (*safePoint)() = nullptr;  // called between forward steps; may throw Interrupted
    Device device = {};
};

/// What it took this rank.
struct FeatcalResult {
    std::uint64_t bytesRead = 0;  // of the experts' weights
};

/// Collective. Texts are shared out over the ranks part by part; rank 0 adds up what the ranks found in an order that no
/// number of ranks changes, solves, and sends every rank what was solved. All in float64, but for the products of a few
/// thousand tokens, which are float32, and for the forward passes.
/// @pre all models have the same layers and vocabulary
/// @throws InputError naming model and tensor or module: a weight or an activation is NaN or infinite; a system cannot be
///         solved; a solution does not fit the dtype it is stored in. RuntimeFault, PeerFailed
FeatcalResult calibrateFeatures(World& world, const FeatcalJob& job);

}  // namespace aimerge
