#include "job/evaluation_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"

#include "aimerge/distributed/phase.h"
#include "aimerge/job/job.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/merge/adapted_weights.h"

namespace aimerge {

EvaluationOutcome evaluate(World& world, const JobOptions& options, const std::string& name,
                           const EvaluationSettings& settings) {
    const Checkpoint model = openInTurn(world, [&] { return Checkpoint::open(name); });
    requireSameInputs(world, {&model});
    const Evaluation evaluation = Evaluation::prepare(world, settings, model);
    const Plan plan = planEvaluation(world, options, evaluation, model);
    const EvaluationResult result = scoreModel(world, options, evaluation, AdaptedWeights(model), plan);
    EvaluationOutcome outcome;
    if (!world.isRoot()) return outcome;
    outcome.tasks = result.tasks;
    outcome.samples = samplesOf(evaluation.requests(), result.runs);
    outcome.items = evaluation.requests().items.size();
    outcome.tokens = evaluation.requests().tokens();
    outcome.seconds = recordedPhases().back().seconds;
    return outcome;
}

}  // namespace aimerge
