#pragma once
// The calibration blocks of the goldens and plans made by hand.

#include "aimerge/calibration/calibrate.h"
#include "aimerge/core/file.h"
#include "model/golden_model.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <vector>

namespace aimerge {

/// The first `count` blocks of the golden pipeline; the first eight are the calibration set of the statistics.
inline TokenBlocks goldenBlocks(std::int64_t count = 8) {
    const auto pipeline = nlohmann::json::parse(readTextFile(goldenPath("calibration/pipeline.json")));
    TokenBlocks blocks;
    blocks.blocks = count;
    blocks.length = pipeline["block_size"];
    for (std::int64_t b = 0; b < count; ++b)
        for (const std::int32_t id : pipeline["blocks"][static_cast<std::size_t>(b)]) blocks.ids.push_back(id);
    return blocks;
}

/// Three layers over the ranks of each replica, as evenly as they go, the rest idle.
inline Plan planOfThreeLayers(int ranks, bool streaming, int replicas = 1) {
    Plan plan;
    plan.ranks.resize(static_cast<std::size_t>(ranks));
    plan.replicas = replicas;
    const int perReplica = ranks / replicas, stages = std::min(perReplica, 3);
    for (int r = 0; r < ranks; ++r) {
        RankPlan& rank = plan.ranks[static_cast<std::size_t>(r)];
        const int stage = r % perReplica;
        rank.replica = r / perReplica;
        if (stage >= stages) continue;
        rank.firstLayer = 3 * stage / stages;
        rank.endLayer = 3 * (stage + 1) / stages;
        rank.embedding = stage == 0;
        rank.head = stage + 1 == stages;
        rank.streamsLayers = streaming;
    }
    return plan;
}

}  // namespace aimerge
