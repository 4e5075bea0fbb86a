#pragma once
// What a rank can do in a second: how the planner weighs computing against reading. How long a job takes on a machine is
// told by the room `simulation`.

#include <cstdint>
#include <string>

namespace aimerge {

struct Hardware {
    std::string name;  // of the machine that is planned for; empty: the one that the job runs on
    bool isGpu = false;
    double flopsPerSecond = 0;            // of a rank, in BF16 matrix products
    double exactFlopsPerSecond = 0;       // of a rank, in float32 and float64 products
    double messageBytesPerSecond = 10e9;  // into a rank, from the memory of others
    double bytesPerSecond = 0;            // of a rank: read as weights; or read, combined and written by a merge
};

/// A rank on so many threads of a server's processors: 40 GFLOP/s and 2 GB/s each.
Hardware processorHardware(int threads);

/// A rank on a GPU of the kind of an H100: 400 TFLOP/s, four tenths of its 989, and a quarter of
/// a node's storage of 12 GB/s.
Hardware gpuHardware();

}  // namespace aimerge
