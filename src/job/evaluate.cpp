#include "job/evaluation_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/staged_models.h"

#include "aimerge/distributed/phase.h"
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
