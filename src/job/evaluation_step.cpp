#include "job/evaluation_step.h"

#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"

namespace aimerge {

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

}  // namespace aimerge
