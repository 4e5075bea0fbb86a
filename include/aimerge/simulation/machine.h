#pragma once
// A machine as a user describes it: what its parts do in a second. Rates are those that programs reach, not those of data
// sheets. `aimerge plan --hardware FILE` reads one from YAML (docs/file-formats.md).

#include <cstdint>
#include <limits>
#include <string>

namespace aimerge {

struct Machine {
    static constexpr double kUnlimited = std::numeric_limits<double>::infinity();

    std::string name;  // as --hardware gives it
    int nodes = 1, ranksPerNode = 1;
    bool isGpu = false;             // ranks calibrate on GPUs, one each
    std::uint64_t memoryBytes = 0;  // of a GPU; 0: a rank's memory is not known
    int threadsPerRank = 1;         // a node's cores, shared out

    double flopsPerSecond = 0;                 // of a rank, in products of the forward pass
    double weightBytesPerSecond = kUnlimited;  // at which a rank's weights pass through its processor
    double mergeBytesPerSecond = 0;   // of a rank, read, combined and written with all files in the memory of its node
    double digestBytesPerSecond = 0;  // of a rank, read and digested likewise
    double messageBytesPerSecond = kUnlimited;  // between two ranks of a node
    double nodeBytesPerSecond = kUnlimited;     // into a node, and out of it
    double latencySeconds = 0;                  // of a message
    double rankReadBytesPerSecond = kUnlimited;
    double nodeReadBytesPerSecond = kUnlimited, nodeWriteBytesPerSecond = kUnlimited;
    double readBytesPerSecond = kUnlimited, writeBytesPerSecond = kUnlimited;  // of all nodes together

    int ranks() const { return nodes * ranksPerNode; }
};

/// A node of four H100, as configs/hardware/h100x4.yaml has it.
Machine h100x4();

/// @param fileName for messages
/// @throws UsageError naming place and key, with the nearest known key where one is not known
Machine parseMachine(const std::string& yaml, const std::string& fileName);

/// What --hardware names: "h100x4", or a file. @throws UsageError
Machine findMachine(const std::string& nameOrFile);

}  // namespace aimerge
