#pragma once
// What every rank does in the phases of a job, as operations of a simulation.

#include "aimerge/simulation/simulate.h"
#include "simulation/events.h"
#include "simulation/topology.h"

#include <vector>

namespace aimerge {

using Programs = std::vector<std::vector<Operation>>;  // by rank

/// Rank 0 reads the base once, for its digest.
Programs preparePrograms(const SimulatedJob& job, const Topology& topology);

/// Stages read their layers, run the micro-batches, and rank 0 gathers what they summed.
Programs calibratePrograms(const SimulatedJob& job, const Topology& topology);

/// Every rank reads, merges and writes its tensors; or rank 0 writes what the others send.
Programs mergePrograms(const SimulatedJob& job, const Topology& topology);

}  // namespace aimerge
