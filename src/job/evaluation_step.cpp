#include "job/evaluation_step.h"

#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/revision.h"
#include "aimerge/corpus/corpus_files.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"

#include <fmt/core.h>

namespace aimerge {

std::string digestOf(const EvaluationSettings& evaluation) {
    Hasher hasher;
    hasher.updateField(fmt::format("scores {}", revision::kScores));
    for (const std::string& suite : evaluation.suites)
        for (const std::filesystem::path& file : corpusFiles(suite)) hasher.updateField(readTextFile(file));
    hasher.updateField(fmt::format("{} {} {} {}", torchName(evaluation.computeDtype), static_cast<int>(evaluation.choices),
                                   evaluation.blockLength, evaluation.tokensPerBatch));
    return hasher.digest().hex();
}

EvaluationResult scoreModel(World& world, const JobOptions& options, const Evaluation& evaluation, const WeightSource& model,
                            const Plan& plan) {
    Phase phase("evaluate");
    EvaluationResult result = evaluation.score(
        world, model,
        {plan, threadsPerRank(world, options), progressListener(world, options), throwIfInterrupted, options.computesOn});
    phase.addIdle(result.waitSeconds);
    phase.addRead(result.bytesRead);
    if (world.isRoot()) phase.addTokens(static_cast<std::uint64_t>(evaluation.requests().tokens()));
    phase.lookAtMemoryOf(options.computesOn);
    return result;
}

EvaluationOutcome outcomeOf(const Evaluation& evaluation, const EvaluationResult& result) {
    EvaluationOutcome outcome;
    outcome.tasks = result.tasks;
    outcome.samples = samplesOf(evaluation.requests(), result.runs);
    outcome.items = evaluation.requests().items.size();
    outcome.tokens = evaluation.requests().tokens();
    outcome.seconds = recordedPhases().back().seconds;
    return outcome;
}

}  // namespace aimerge
