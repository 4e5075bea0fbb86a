#pragma once
// Where statistics are measured. Matrix products of libtorch have other bits on another processor, and with another number
// of threads.

#include "aimerge/distributed/world.h"

#include <string>
#include <vector>

namespace aimerge {

struct RankPlace {
    std::string host, processor, instructionSet;
    int threads = 1;
    bool operator==(const RankPlace&) const = default;
};

/// A line for each run of ranks at the same place: "ranks 0-3: node1, AMD EPYC 9654 96-Core
/// Processor, AVX-512, 16 threads each".
std::string machinesText(const std::vector<RankPlace>& ranks);

/// Collective. That text, on rank 0, which also says so when ranks compute in different ways.
std::string describeMachines(World& world, int threads);

}  // namespace aimerge
