#pragma once
// One merge from its config to the published folder: what `aimerge merge` does for a document, and a sweep for a point.

#include "cli/merge_job.h"
#include "cli/options.h"
#include "cli/shared_failure.h"
#include "cli/statistics_step.h"

#include "aimerge/checkpoint/output_folder.h"
#include "aimerge/distributed/world.h"
#include "aimerge/statistics/statistics_log.h"

#include <optional>
#include <string>

namespace aimerge {

/// What rank 0 alone has before the ranks share the work.
struct RootState {
    std::optional<OutputFolder> output;
    std::optional<StatisticsLog> statistics;  // given or cached; absent without AIM, or until it is made
    CalibrationInput calibration;
    std::string inputDigest;
    bool takesOver = false;  // a complete output from the same document and inputs is taken as it is
    bool showsPlan = true;
};

/// Collective. A document's whole merge. An input that is wrong does not get better by continuing: nothing of this output
/// is kept then.
/// @param scope whether what goes wrong with the inputs or the config on any rank is a SharedFailure
void mergeDocument(World& world, const Options& options, const MergeConfig& config, RootState& root,
                   FailureScope scope = FailureScope::Job);

}  // namespace aimerge
