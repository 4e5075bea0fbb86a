#pragma once
// What this rank did in the phases of its job: measured where they run, kept in one list of the thread that runs the job,
// and put together over the ranks when the job has ended (job_summary.h).

#include "aimerge/device/device.h"
#include "aimerge/device/profiler_range.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// All phases of one name together.
struct PhaseFigures {
    std::string name;                               // "calibrate", "merge", ...
    double seconds = 0;                             // wall clock
    double idleSeconds = 0;                         // of them in waits for another rank
    std::uint64_t bytesRead = 0, bytesWritten = 0;  // of tensors; what comes from the page cache counts too
    std::uint64_t tokens = 0;                       // that passed the model on all ranks; told by rank 0
    std::uint64_t peakDeviceBytes = 0;              // in use on this rank's GPU, whoever used it

    void add(const PhaseFigures& more);
};

/// A phase lasts as long as this object. It begins and ends with a line of the log at level debug, and is a range in the
/// profile of a CUDA build.
class Phase {
public:
    explicit Phase(std::string name);
    ~Phase();
    Phase(const Phase&) = delete;
    Phase& operator=(const Phase&) = delete;

    void addRead(std::uint64_t bytes) { figures_.bytesRead += bytes; }
    void addWritten(std::uint64_t bytes) { figures_.bytesWritten += bytes; }
    void addTokens(std::uint64_t tokens) { figures_.tokens += tokens; }
    void addIdle(double seconds) { figures_.idleSeconds += seconds; }
    /// After the phase's work: how much memory of the GPU it took.
    void lookAtMemoryOf(const Device& device) { figures_.peakDeviceBytes = peakMemoryInUse(device); }

private:
    PhaseFigures figures_;
    ProfilerRange range_;
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// This rank's phases so far, of the job of this thread, in the order of their first ends.
const std::vector<PhaseFigures>& recordedPhases();

}  // namespace aimerge
