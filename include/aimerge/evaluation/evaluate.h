#pragma once
// Suites scored on models: prepared once, then on any number of models that share the tokenizer.

#include "aimerge/evaluation/scores.h"

#include <string>
#include <vector>

namespace aimerge {

struct EvaluationSettings {
    std::vector<std::string> suites;  // paths
    Dtype computeDtype = Dtype::F32;
    ChoiceMetric choices = ChoiceMetric::AccNorm;
    std::int64_t blockLength = 256;      // of texts (evaluation/requests.h)
    std::int64_t tokensPerBatch = 1024;  // about; decides bits, unlike the number of ranks
};

/// How a model is run.
struct EvaluationRun {
    const Plan& plan;
    int threads = 1;  // of this rank
    ProgressListener progress = {};
    void (*safePoint)() = nullptr;
    Device device = {};
};

/// Scores on rank 0; what the pass took this rank, on every rank.
struct EvaluationResult {
    std::vector<TaskScore> tasks;
    std::vector<RunScore> runs;  // for samplesOf()
    double waitSeconds = 0;
    std::uint64_t bytesRead = 0;
};

class Evaluation {
public:
    /// Collective. Rank 0 reads and encodes the suites. @throws what readSuites() and prepareRequests() throw
    static Evaluation prepare(World& world, const EvaluationSettings& settings, const Checkpoint& model);

    /// On rank 0; empty elsewhere.
    const EvaluationRequests& requests() const { return requests_; }

    /// What a plan has to know about the pass (merging is false, the ranks and memory are left to the caller).
    PlanSettings planSettings() const;

    /// Collective.
    EvaluationResult score(World& world, const WeightSource& model, const EvaluationRun& run) const;

private:
    EvaluationSettings settings_;
    EvaluationRequests requests_;
    std::vector<TokenBatch> batches_;
};

}  // namespace aimerge
