#pragma once
// How and where a job runs: a field for each option of that name of the command line.

#include "aimerge/core/progress.h"
#include "aimerge/device/device.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

class World;

struct JobOptions {
    std::string out;  // folder, or file of calibrate
    std::string device = "auto";
    Device computesOn;                       // what chooseDevice() found for this rank
    int stages = 0, replicas = 0;            // of a calibration; 0 = the planner chooses
    int threads = 0;                         // per rank; 0 = share the machine's among the ranks on it
    std::uint64_t memoryLimit = 0;           // bytes per rank; 0 = none
    std::optional<std::uint64_t> readAhead;  // bytes per rank; none = chosen
    std::uint64_t maxShardSize = 5'000'000'000;
    bool scattersInputs = false, gathersAtRoot = false;  // --io scatter, --gather root
    std::vector<std::string> overrides;                  // path.to.key=value
    bool dryRun = false;
    bool strict = false, allowsCrimes = false;
    bool overwrite = false;
    bool verifyAfter = false;
    ProgressListener progress;  // on rank 0
    /// Takes what is shown before work begins, on rank 0: the plan, a config that was made. Empty: standard error.
    std::function<void(std::string_view)> show;
};

/// Threads of this rank: as given, or this rank's share of the CPUs.
int threadsPerRank(const World& world, const JobOptions& options);
/// Bytes for what grows with the model, 0 = no limit: the limit given, or on a GPU most of its memory.
std::uint64_t memoryLimitBytes(const JobOptions& options);
/// The part of a GPU's memory that is for what grows with the model; the rest is for libraries and
/// what they allocate at once.
std::uint64_t usableGpuMemory(std::uint64_t bytes);
/// Nobody on ranks other than 0.
ProgressListener progressListener(const World& world, const JobOptions& options);
/// Where this rank merges: on its GPU only with device cuda, because a merge is as fast as files are read and written,
/// which the CPU does without copying data over (docs/gpu.md).
Device mergesOn(const JobOptions& options);
/// Gives `text` to options.show, or to standard error.
void showText(const JobOptions& options, std::string_view text);

/// Collective. Where this rank computes: with `cuda` a GPU of its own, or an error; with `auto` a GPU of its own where every
/// rank has one, else the CPU.
/// @throws UsageError saying which rank has no GPU and why
Device chooseDevice(World& world, const JobOptions& options);

}  // namespace aimerge
