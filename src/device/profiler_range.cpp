#include "aimerge/device/profiler_range.h"

#if AIMERGE_HAS_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace aimerge {

#if AIMERGE_HAS_CUDA

ProfilerRange::ProfilerRange(const char* name) {
    nvtxRangePushA(name);
}

ProfilerRange::~ProfilerRange() {
    nvtxRangePop();
}

#else

ProfilerRange::ProfilerRange(const char*) {}

ProfilerRange::~ProfilerRange() = default;

#endif

}  // namespace aimerge
