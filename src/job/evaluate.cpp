#include "job/evaluation_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/staged_models.h"

#include "aimerge/job/job.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/merge/adapted_weights.h"

namespace aimerge {

EvaluationOutcome evaluate(World& world, const JobOptions& options, const std::string& name,
                           const EvaluationSettings& settings) {
    std::optional<StagedModels> staged;
    if (options.scattersInputs) staged.emplace(world, std::set{name});
    const Checkpoint model = openInTurn(world, [&] { return Checkpoint::open(staged ? staged->nameHere(name) : name); });
    if (staged)
        staged->dropNames();
    else
        requireSameInputs(world, {&model});
    const Evaluation evaluation = Evaluation::prepare(world, settings, model);
    const Plan plan = planEvaluation(world, options, evaluation, model);
    if (staged) staged->fill(world, weightsOfStages(model, plan, PassEnd::Head));
    const EvaluationResult result = scoreModel(world, options, evaluation, AdaptedWeights(model), plan);
    return world.isRoot() ? outcomeOf(evaluation, result) : EvaluationOutcome{};
}

}  // namespace aimerge
