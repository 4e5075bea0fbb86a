#pragma once
// The names and table rows of the statistics log, shared by its writer and its reader.

#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/statistics/statistics.h"
#include "statistics/hdf5_object.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace aimerge::statistics_log {

/// A block before the HDF5 file, which such files may have (a "user block"): this text, and the XXH3-128 of what follows.
inline constexpr std::string_view kSeal = "aimerge statistics log; XXH3-128 of all after this block: ";
inline constexpr std::size_t kSealBytes = 512;

/// Reads the file a few MiB at a time. @pre it is at least as long as its seal
Digest digestBehindSeal(const File& file);

inline constexpr std::int64_t kFormatVersion = 1;
inline constexpr const char* kFormatVersionName = "format_version";
inline constexpr const char* kStatisticsGroup = "/statistics";
inline constexpr const char* kSensitivityGroup = "/sensitivity";
inline constexpr const char* kPlanTable = "/plan";
inline constexpr const char* kTimingTable = "/timing";
inline constexpr const char* kRevisionName = "revision";  // absent: 0
inline constexpr const char* kMachinesName = "machines";  // absent in older logs
inline constexpr const char* kBaseConfig = "/base_config";
inline constexpr const char* kTokensAttribute = "tokens";         // one, or of fused experts one each
inline constexpr const char* kInputAxisAttribute = "input_axis";  // absent: -1

inline constexpr std::array<Statistic, 3> kStatistics{Statistic::MeanAbs, Statistic::Rms, Statistic::MaxAbs};

/// The root attributes: visit(name, field) for every field of a (const or mutable) StatisticsOrigin.
template <typename Origin, typename Visit>
void forEachField(Origin& origin, const Visit& visit) {
    visit("base_model", origin.baseModel);
    visit("base_digest", origin.baseDigest);
    visit("base_file_stamps", origin.baseFileStamps);
    visit("corpus", origin.corpus);
    visit("tokens_digest", origin.tokensDigest);
    visit("tokens", origin.tokens);
    visit("blocks", origin.blocks);
    visit("block_length", origin.blockLength);
    visit("dtype", origin.dtype);
    visit("micro_batch", origin.microBatch);
    visit("vocabulary", origin.vocabulary);
    visit("device", origin.device);
    visit("ranks", origin.ranks);
    visit("threads_per_rank", origin.threadsPerRank);
    visit("command_line", origin.commandLine);
    visit("created", origin.created);
    visit("tool_version", origin.toolVersion);
}

struct PlanRow {
    std::int64_t rank, firstLayer, lastLayer;
};

struct TimingRow {
    std::int64_t rank;
    double forwardSeconds, waitSeconds, readSeconds;
    std::int64_t peakMemoryBytes, peakDeviceBytes, bytesRead, tokens;
};

inline hdf5::Type planRowType() {
    hdf5::Type type(H5Tcreate(H5T_COMPOUND, sizeof(PlanRow)));
    H5Tinsert(type.id(), "rank", HOFFSET(PlanRow, rank), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "first_layer", HOFFSET(PlanRow, firstLayer), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "last_layer", HOFFSET(PlanRow, lastLayer), H5T_NATIVE_INT64);
    return type;
}

inline hdf5::Type timingRowType() {
    hdf5::Type type(H5Tcreate(H5T_COMPOUND, sizeof(TimingRow)));
    H5Tinsert(type.id(), "rank", HOFFSET(TimingRow, rank), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "forward_seconds", HOFFSET(TimingRow, forwardSeconds), H5T_NATIVE_DOUBLE);
    H5Tinsert(type.id(), "wait_seconds", HOFFSET(TimingRow, waitSeconds), H5T_NATIVE_DOUBLE);
    H5Tinsert(type.id(), "read_seconds", HOFFSET(TimingRow, readSeconds), H5T_NATIVE_DOUBLE);
    H5Tinsert(type.id(), "peak_memory_bytes", HOFFSET(TimingRow, peakMemoryBytes), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "peak_device_memory_bytes", HOFFSET(TimingRow, peakDeviceBytes), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "bytes_read", HOFFSET(TimingRow, bytesRead), H5T_NATIVE_INT64);
    H5Tinsert(type.id(), "tokens", HOFFSET(TimingRow, tokens), H5T_NATIVE_INT64);
    return type;
}

/// Variable-length UTF-8, which h5py gives as str.
inline hdf5::Type textType() {
    hdf5::Type type(H5Tcopy(H5T_C_S1));
    H5Tset_size(type.id(), H5T_VARIABLE);
    H5Tset_cset(type.id(), H5T_CSET_UTF8);
    return type;
}

}  // namespace aimerge::statistics_log
