#include "job/evaluation_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"

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
    return world.isRoot() ? outcomeOf(evaluation, result) : EvaluationOutcome{};
}

}  // namespace aimerge
