#pragma once
// The statistics log on disk: HDF5, readable with h5py.
//   /statistics/<module>/{mean_abs,rms,max_abs}  float32 [in_features], group attribute `tokens`
//   /plan, /timing                               one row per rank
//   root attributes                              format_version and the fields of StatisticsOrigin
// Before it lies a block with the checksum of the file, without which a log is read, too.

#include "aimerge/statistics/statistics.h"

#include <filesystem>

namespace aimerge {

/// Writes a sibling temporary file, syncs it and renames it. Local: rank 0 calls it.
void writeStatisticsLog(const std::filesystem::path& path, const StatisticsLog& log);

/// @throws InputError naming the file and the object: not HDF5, truncated, a wrong checksum, another format version, missing dataset, NaN or
/// negative values
StatisticsLog readStatisticsLog(const std::filesystem::path& path);

/// Only the root attributes; for deciding whether a log can be reused.
StatisticsOrigin readStatisticsOrigin(const std::filesystem::path& path);

}  // namespace aimerge
