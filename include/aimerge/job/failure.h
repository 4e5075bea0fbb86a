#pragma once
// What a job's exception comes to: the line that the command line prints and Python raises, and its kind. Local.

#include "aimerge/core/error.h"
#include "aimerge/experiment/sweep_config.h"
#include "aimerge/job/job.h"
#include "aimerge/output/verify.h"

#include <exception>
#include <string>

namespace aimerge {

struct Failure {
    ExitCode code = ExitCode::Fault;
    std::string message;
};

/// An Error is what it says; anything else is a fault.
Failure failureOf(const std::exception& error);

/// @throws DamageFound when there are findings
void requireWhole(const std::string& folder, const VerifyReport& report);

/// @throws RuntimeFault when points have failed, after a dry run InputError when some could not be made
void requireNoFailedPoints(const SweepConfig& config, const SweepOutcome& outcome, bool dryRun);

}  // namespace aimerge
