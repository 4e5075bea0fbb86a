#pragma once

#include "aimerge/evaluation/evaluate.h"
#include "aimerge/job/job_options.h"

namespace aimerge {

/// Collective. Scores a model as the options say, as a phase of the job. @param plan of planEvaluation()
EvaluationResult scoreModel(World& world, const JobOptions& options, const Evaluation& evaluation, const WeightSource& model,
                            const Plan& plan);

}  // namespace aimerge
