#pragma once
// What a merge reads: which folders and files, and in which state they are.

#include "job/merge_job.h"

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

/// Folders and files that the job reads and the output must not touch. Names that are no local paths are in the hub cache,
/// or are those of other documents.
std::vector<std::filesystem::path> inputPaths(const MergeConfig& config);

/// Digest of the job as it is asked for, and of names, sizes and times of all files it reads. Known before any of them is
/// read, so that a result from the same inputs is recognised at once.
std::string inputDigest(const MergeJob& job);

}  // namespace aimerge
