#pragma once
// Machines of a cluster may run other builds, and have other files at the same paths. What ranks decide by themselves, from
// options and headers, must come out the same on all of them; so they compare what they see before work begins.

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/distributed/world.h"

#include <vector>

namespace aimerge {

/// Collective. @throws UsageError when a rank was started with other options than rank 0, or is another program
void requireSameStart(World& world);

/// Collective. Compares Checkpoint::fileSamples().
/// @throws InputError naming a file that is not the same on a rank as on rank 0
void requireSameInputs(World& world, const std::vector<const Checkpoint*>& models);

}  // namespace aimerge
