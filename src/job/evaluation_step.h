#pragma once

#include "aimerge/job/job.h"

namespace aimerge {

/// Collective. Scores a model as the options say, as a phase of the job. @param plan of planEvaluation()
EvaluationResult scoreModel(World& world, const JobOptions& options, const Evaluation& evaluation, const WeightSource& model,
                            const Plan& plan);

/// Rank 0: what the last scoreModel() of this job has found.
EvaluationOutcome outcomeOf(const Evaluation& evaluation, const EvaluationResult& result);

/// Digest of the suites' contents and of how they are scored.
std::string digestOf(const EvaluationSettings& evaluation);

}  // namespace aimerge
