#pragma once
// A named stretch of a thread's time, as NVIDIA's profilers show it (NVTX). Nothing without AIMERGE_CUDA, and nearly nothing
// while no profiler watches.

namespace aimerge {

class ProfilerRange {
public:
    explicit ProfilerRange(const char* name);
    ~ProfilerRange();
    ProfilerRange(const ProfilerRange&) = delete;
    ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace aimerge
