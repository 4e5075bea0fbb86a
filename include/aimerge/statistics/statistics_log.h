#pragma once
// The statistics log on disk: HDF5, readable with h5py.
//   /statistics/<module>/{mean_abs,rms,max_abs}  float32 [in_features], or [experts, in_features] of fused experts
//   /statistics/<module>                         attributes `tokens`, int64: one, or one per fused expert; `input_axis`,
//                                                int64, where it is not -1
//   /base_config                                 text of the model's config.json; absent in older logs
//   /sensitivity/<parameter>                     where asked for: float32, the parameter's shape, contiguous
//   /plan, /timing                               one row per rank
//   root attributes                              format_version and the fields of StatisticsOrigin
// Before it lies a block with the checksum of the file, without which a log is read, too.

#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// One parameter's sensitivity, not normalised, to be written.
struct SensitivityValues {
    std::string parameter;
    std::vector<std::int64_t> shape;
    std::function<void(std::int64_t first, std::span<float> out)> read;  // elements [first, first + out.size())
};

/// Writes a sibling temporary file, syncs it and renames it. Local: rank 0 calls it. Sensitivities, which may be as large as
/// the model, are passed through a few MiB at a time.
void writeStatisticsLog(const std::filesystem::path& path, const StatisticsLog& log,
                        std::span<const SensitivityValues> sensitivity = {});

/// @throws InputError naming the file and the object: not HDF5, truncated, a wrong checksum, another format version, missing
/// dataset, NaN or negative values, shapes or counts that contradict each other, a /base_config that is no JSON object
StatisticsLog readStatisticsLog(const std::filesystem::path& path);

/// Where a parameter's sensitivity lies in a log.
struct SensitivityPlace {
    std::string parameter;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;  // of its float32 values, little-endian, in the file
};

/// Empty where the log has none. @throws InputError also when one is not stored as contiguous float32
std::vector<SensitivityPlace> readSensitivityPlaces(const std::filesystem::path& path);

/// Only the root attributes; for deciding whether a log can be reused.
StatisticsOrigin readStatisticsOrigin(const std::filesystem::path& path);

}  // namespace aimerge
