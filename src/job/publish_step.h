#pragma once
// The last stage of a merge: small files, manifest, and the rename that makes the output appear.

#include "job/merge_job.h"

#include "aimerge/output/journal.h"
#include "aimerge/output/output_folder.h"

#include <nlohmann/json.hpp>

#include <vector>

namespace aimerge {

/// config.json of the output.
nlohmann::ordered_json outputConfig(const MergeJob& job);

/// What the manifest says beside the job.
struct Findings {
    std::string inputDigest;
    nlohmann::ordered_json coverage, featcal;  // null without AIM, and without featcal
};

/// Local: rank 0 calls it when every rank has synced what it wrote.
/// @param finished all ranks' finished tensors, of all points
void completeAndPublish(const MergeJob& job, const Findings& findings, const std::vector<FinishedTensor>& finished,
                        OutputFolder& output);

}  // namespace aimerge
