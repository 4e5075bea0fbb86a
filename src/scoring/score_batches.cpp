#include "aimerge/scoring/score_batches.h"

#include "aimerge/calibration/hidden_transport.h"
#include "aimerge/calibration/stage_link.h"
#include "aimerge/calibration/torch_threads.h"
#include "aimerge/core/error.h"
#include "aimerge/distributed/pipeline.h"
#include "aimerge/distributed/stage.h"
#include "aimerge/model/decoder.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cstring>

namespace aimerge {
namespace {

/// Rows whose logits are in memory at once.
constexpr std::int64_t kLogitRows = 256;

std::vector<StepShape> shapesOf(const std::vector<TokenBatch>& batches) {
    std::vector<StepShape> shapes;
    for (const TokenBatch& batch : batches)
        shapes.push_back({static_cast<std::int64_t>(batch.sequences.size()), batch.length});
    return shapes;
}

std::int64_t longestOf(const std::vector<TokenBatch>& batches) {
    std::int64_t longest = 1;
    for (const TokenBatch& batch : batches) longest = std::max(longest, batch.length);
    return longest;
}

at::Tensor tensorOf(const std::vector<std::int64_t>& numbers) {
    return at::tensor(at::ArrayRef<std::int64_t>(numbers), at::kLong);
}

/// A rank's layers, over all batches.
class ScoringRun {
public:
    ScoringRun(World& world, HiddenTransport& transport, const ScoringJob& job, const Stage& stage,
               std::vector<int> waitingRanks)
        : job_(job),
          stage_(stage),
          decoder_(job.weights, job.computeDtype, longestOf(job.batches), job.device),
          link_(transport, stage, shapesOf(job.batches), decoder_, stage.streamsLayers ? job.batches.size() : 3),
          notice_(world, std::move(waitingRanks)),
          progress_(job.progress, "evaluate", "batches", job.batches.size(), 0) {
        if (!stage.last()) return;
        finalNorm_ = decoder_.loadFinalNorm();
        head_ = decoder_.loadHead();
    }

    BatchScores run() {
        stage_.streamsLayers ? runStreaming() : runResident();
        notice_.finish();
        progress_.finish();
        return {std::move(scores_), link_.waitSeconds(), decoder_.bytesRead()};
    }

private:
    std::int64_t steps() const { return static_cast<std::int64_t>(job_.batches.size()); }

    void runResident() {
        std::vector<LoadedLayer> layers;
        for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer)
            layers.push_back(decoder_.loadLayer(layer, stage_.endLayer));
        passStepByStep(link_, steps(), [&](std::int64_t step) {
            at::Tensor& hidden = enter(step);
            for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer)
                decoder_.runLayer(layer, layers[static_cast<std::size_t>(layer - stage_.firstLayer)], hidden, nullptr);
            leave(step);
        });
    }

    /// One layer in memory at a time: all batches pass it before the next is read.
    void runStreaming() {
        LoadedLayer weights;
        passLayerByLayer(
            link_, steps(), steps(), stage_.firstLayer, stage_.endLayer,
            [&](std::int64_t layer) {
                weights = {};  // before the next one comes into memory
                weights = decoder_.loadLayer(layer, stage_.endLayer);
            },
            [&](std::int64_t layer, std::int64_t step) {
                at::Tensor& hidden = layer == stage_.firstLayer ? enter(step) : resume(step);
                decoder_.runLayer(layer, weights, hidden, nullptr);
                if (layer + 1 == stage_.endLayer) leave(step);
            });
    }

    at::Tensor& resume(std::int64_t step) {
        if (job_.safePoint) job_.safePoint();
        return link_.take(step);
    }

    at::Tensor& enter(std::int64_t step) {
        at::Tensor& hidden = resume(step);
        if (stage_.first()) decoder_.embed(job_.batches[static_cast<std::size_t>(step)].ids, hidden);
        return hidden;
    }

    void leave(std::int64_t step) {
        if (stage_.last()) score(job_.batches[static_cast<std::size_t>(step)], link_.take(step));
        notice_.stepDone();
        progress_.advance(1, 0);
    }

    void score(const TokenBatch& batch, const at::Tensor& hidden) {
        const at::Tensor flat = hidden.view({-1, decoder_.hiddenSize()});
        const at::Tensor rows = tensorOf(batch.rows).to(hidden.device()),
                         tokens = tensorOf(batch.tokens).to(hidden.device());
        for (std::int64_t first = 0; first < rows.numel(); first += kLogitRows) {
            const std::int64_t count = std::min(kLogitRows, rows.numel() - first);
            const at::Tensor chosen = flat.index_select(0, rows.narrow(0, first, count)).unsqueeze(0);
            const at::Tensor logits =
                decoder_.runHead(head_, decoder_.runFinalNorm(finalNorm_, chosen, nullptr)).squeeze(0).to(at::kFloat);
            const at::Tensor wanted = tokens.narrow(0, first, count);
            const at::Tensor logProbability = (logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - logits.logsumexp(1)).cpu();
            const at::Tensor isGreedy = (logits.argmax(1) == wanted).cpu();
            for (std::int64_t i = 0; i < count; ++i)
                scores_.push_back({logProbability.const_data_ptr<float>()[i], isGreedy.const_data_ptr<bool>()[i]});
        }
    }

    const ScoringJob& job_;
    const Stage& stage_;
    Decoder decoder_;
    StageLink link_;
    StepNotice notice_;
    Progress progress_;
    ModuleWeights finalNorm_, head_;
    std::vector<TokenScore> scores_;
};

}  // namespace

BatchScores scoreBatches(World& world, const ScoringJob& job) {
    setTorchThreads(job.threads);
    const c10::InferenceMode inference;
    useDevice(job.device);
    const Stage stage = stageOf(job.plan, world.rank(), job.weights.modelConfig().layers);
    const std::unique_ptr<HiddenTransport> transport = openTransport(world, stage, job.device);
    BatchScores scores;
    if (stage.empty())
        StepNotice::follow(world, lastStage(job.plan), static_cast<std::int64_t>(job.batches.size()));
    else
        scores = ScoringRun(world, *transport, job, stage, stage.last() ? idleRanks(job.plan) : std::vector<int>{}).run();

    // Only the last stage has any.
    std::string text(scores.tokens.size() * sizeof(TokenScore), '\0');
    if (!scores.tokens.empty()) std::memcpy(text.data(), scores.tokens.data(), text.size());
    std::vector<TokenScore> gathered;
    for (const std::string& part : world.gather(text)) {
        const std::size_t before = gathered.size();
        gathered.resize(before + part.size() / sizeof(TokenScore));
        if (!part.empty()) std::memcpy(gathered.data() + before, part.data(), part.size());
    }
    scores.tokens = std::move(gathered);
    return scores;
}

}  // namespace aimerge
