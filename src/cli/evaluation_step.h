#pragma once

#include "cli/options.h"

#include "aimerge/evaluation/evaluate.h"

namespace aimerge {

/// Collective. Scores a model as the options say, as a phase of the job. @param plan of planEvaluation()
EvaluationResult scoreModel(World& world, const Options& options, const Evaluation& evaluation, const WeightSource& model,
                            const Plan& plan);

}  // namespace aimerge
