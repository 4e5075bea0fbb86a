#include "aimerge/evaluation/evaluate.h"

#include "aimerge/torch/torch_library.h"
#include "evaluation/batches.h"

#include <algorithm>

namespace aimerge {

Evaluation Evaluation::prepare(World& world, const EvaluationSettings& settings, const Checkpoint& model) {
    Evaluation evaluation;
    evaluation.settings_ = settings;
    if (world.isRoot()) {
        evaluation.requests_ = prepareRequests(readSuites(settings.suites), model, {.blockLength = settings.blockLength});
        evaluation.batches_ = batchesOf(evaluation.requests_.sequences, settings.tokensPerBatch);
    }
    evaluation.batches_ = shareBatches(world, std::move(evaluation.batches_));
    return evaluation;
}

PlanSettings Evaluation::planSettings() const {
    PlanSettings settings;
    settings.merging = false;
    settings.replicas = 1;
    settings.computeDtype = settings_.computeDtype;
    for (const TokenBatch& batch : batches_) {
        const auto sequences = static_cast<std::int64_t>(batch.sequences.size());
        settings.blocks += sequences;
        settings.blockLength = std::max(settings.blockLength, batch.length);
        settings.microBatch = std::max(settings.microBatch, sequences);
    }
    return settings;
}

EvaluationResult Evaluation::score(World& world, const WeightSource& model, const EvaluationRun& run) const {
    const ScoringJob job{model,       settings_.computeDtype, run.plan,      batches_,
                         run.threads, run.progress,           run.safePoint, run.device};
    const BatchScores scores = scoreBatchesWithTorch(world, job);
    EvaluationResult result;
    result.waitSeconds = scores.waitSeconds;
    result.bytesRead = scores.bytesRead;
    if (!world.isRoot()) return result;
    result.runs = scoreRuns(requests_, inSequenceOrder(requests_.sequences, batches_, scores.tokens));
    result.tasks = scoreTasks(requests_, result.runs, settings_.choices);
    return result;
}

}  // namespace aimerge
