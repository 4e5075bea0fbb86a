#pragma once
// The last stage of a merge: small files, manifest, and the rename that makes the output appear.

#include "cli/merge_job.h"

#include "aimerge/output/journal.h"
#include "aimerge/output/output_folder.h"

#include <nlohmann/json.hpp>

#include <vector>

namespace aimerge {

/// config.json of the output.
nlohmann::ordered_json outputConfig(const MergeJob& job);

/// Local: rank 0 calls it when every rank has synced what it wrote.
/// @param inputDigest, coverage for the manifest; coverage is null without AIM
/// @param finished all ranks' finished tensors, of all points
void completeAndPublish(const MergeJob& job, const std::string& inputDigest, const nlohmann::ordered_json& coverage,
                        const std::vector<FinishedTensor>& finished, OutputFolder& output);

}  // namespace aimerge
