#include "cli/shared_config.h"

namespace aimerge {

MergeConfig shareConfig(World& world, const Options& options, ConfigUse use) {
    if (world.isRoot()) {
        MergeConfig config = loadMergeConfig(options.subject, options.overrides, use);
        world.broadcast(config.text);
        return config;
    }
    return parseMergeConfig(world.broadcast({}), options.subject, {}, use);
}

}  // namespace aimerge
