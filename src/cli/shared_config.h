#pragma once
// The config of a job, the same on every rank.

#include "cli/options.h"

#include "aimerge/config/merge_config.h"
#include "aimerge/distributed/world.h"

#include <utility>

namespace aimerge {

/// Collective. Rank 0 reads the file and applies --set; the others parse the text it sends.
MergeConfig shareConfig(World& world, const Options& options, ConfigUse use);

/// Collective. Runs `open` on rank 0 and, when that succeeded, on the others: what is wrong is found and said once.
template <typename Open>
auto openInTurn(World& world, Open&& open) {
    if (world.isRoot()) {
        auto opened = open();
        world.barrier();
        return opened;
    }
    world.barrier();
    return open();
}

}  // namespace aimerge
