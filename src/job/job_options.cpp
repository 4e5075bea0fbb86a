#include "aimerge/job/job_options.h"

#include "aimerge/core/standard_streams.h"
#include "aimerge/distributed/world.h"

namespace aimerge {

int threadsPerRank(const World& world, const JobOptions& options) {
    if (options.threads > 0) return options.threads;
    return world.processorsOfRank();
}

std::uint64_t memoryLimitBytes(const JobOptions& options) {
    if (options.memoryLimit > 0 || !options.computesOn.isGpu()) return options.memoryLimit;
    return usableGpuMemory(options.computesOn.memoryBytes);
}

std::uint64_t usableGpuMemory(std::uint64_t bytes) {
    return bytes / 20 * 17;
}

ProgressListener progressListener(const World& world, const JobOptions& options) {
    return world.isRoot() ? options.progress : ProgressListener{};
}

Device mergesOn(const JobOptions& options) {
    return options.device == "cuda" ? options.computesOn : Device{};
}

void showText(const JobOptions& options, std::string_view text) {
    options.show ? options.show(text) : writeToStandardError(text);
}

}  // namespace aimerge
