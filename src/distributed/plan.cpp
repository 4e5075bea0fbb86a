#include "aimerge/distributed/plan.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "distributed/balance.h"
#include "distributed/memory_estimate.h"
#include "distributed/work_estimate.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace aimerge {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankPlan, firstLayer, endLayer, embedding, head, tensors, bytesToRead, bytesToWrite,
                                   calibrationWeightBytes, hiddenStateBytes, streamsLayers, peakMemoryBytes,
                                   calibrationFlops)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Plan, ranks)

namespace {

/// What one rank does; its layers are [firstLayer, endLayer).
struct Share {
    std::size_t firstLayer = 0, endLayer = 0;
    bool embedding = false, head = false;
    Work work;
    StageWeights weights;
};

/// The layers' ends for the first `active` ranks. The embedding counts with the first layer and the end with the last one,
/// because that is where they go.
std::vector<std::size_t> layerEnds(const ModelWork& model, std::size_t active, int threads) {
    std::vector<double> seconds;
    for (const Work& layer : model.layers) seconds.push_back(estimatedSeconds(layer, threads));
    if (seconds.empty()) return std::vector<std::size_t>(active, 0);
    seconds.front() += estimatedSeconds(model.embedding, threads);
    seconds.back() += estimatedSeconds(model.end, threads);
    return balanceContiguous(seconds, active);
}

std::vector<Share> shareOut(const ModelWork& model, const PlanSettings& settings) {
    const std::size_t ranks = static_cast<std::size_t>(settings.ranks), layers = model.layers.size();
    const std::size_t active = layers == 0 ? ranks : std::min(ranks, layers);
    const std::vector<std::size_t> ends = layerEnds(model, active, settings.threadsPerRank);
    std::vector<Share> shares(ranks);
    for (std::size_t r = 0; r < active; ++r) {
        Share& share = shares[r];
        share.firstLayer = r == 0 ? 0 : ends[r - 1];
        share.endLayer = ends[r];
        share.embedding = r == 0;
        share.head = r + 1 == active;
        if (share.embedding) share.work.add(model.embedding);
        for (std::size_t layer = share.firstLayer; layer < share.endLayer; ++layer) {
            share.work.add(model.layers[layer]);
            share.weights.leastStreamed = std::max(share.weights.leastStreamed, model.layers[layer].weightBytes);
        }
        if (share.head) {
            share.work.add(model.end);
            share.weights.leastStreamed += model.end.weightBytes;
        }
        share.weights.all = share.work.weightBytes;
    }
    for (std::size_t r = active; r < ranks; ++r) shares[r].firstLayer = shares[r].endLayer = layers;

    const auto hasLess = [&](const Share& a, const Share& b) {
        return estimatedSeconds(a.work, settings.threadsPerRank) < estimatedSeconds(b.work, settings.threadsPerRank);
    };
    const auto activeEnd = shares.begin() + static_cast<std::ptrdiff_t>(active);
    for (const Work& other : model.others) std::min_element(shares.begin(), activeEnd, hasLess)->work.add(other);
    return shares;
}

RankPlan rankPlanOf(const Share& share) {
    RankPlan rank;
    rank.firstLayer = static_cast<std::int64_t>(share.firstLayer);
    rank.endLayer = static_cast<std::int64_t>(share.endLayer);
    rank.embedding = share.embedding;
    rank.head = share.head;
    rank.tensors = share.work.tensors;
    rank.bytesToRead = share.work.bytesToRead;
    rank.bytesToWrite = share.work.bytesToWrite;
    rank.calibrationWeightBytes = share.work.weightBytes;
    rank.calibrationFlops = share.work.calibrationFlops;
    return rank;
}

void warnOfIdleRanks(const Plan& plan, std::size_t layers) {
    const auto idle = std::count_if(plan.ranks.begin(), plan.ranks.end(), [](const RankPlan& rank) { return rank.idle(); });
    if (idle > 0) spdlog::warn("{} ranks for {} layers: idle ranks: {}", plan.ranks.size(), layers, idle);
}

}  // namespace

std::uint64_t Plan::totalBytesToRead() const {
    return std::accumulate(ranks.begin(), ranks.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const RankPlan& rank) { return sum + rank.bytesToRead; });
}

std::uint64_t Plan::totalBytesToWrite() const {
    return std::accumulate(ranks.begin(), ranks.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const RankPlan& rank) { return sum + rank.bytesToWrite; });
}

std::string Plan::toJson() const {
    return nlohmann::json(*this).dump();
}

Plan Plan::fromJson(const std::string& text) {
    return nlohmann::json::parse(text).get<Plan>();
}

Plan makePlan(const Checkpoint& base, const std::vector<OutputTensor>& output, const PlanSettings& settings) {
    const ModelWork model = workOf(base, output, settings);
    const StepMemory step = StepMemory::of(base.modelConfig(), settings);
    Plan plan;
    std::uint64_t least = 0;
    std::size_t neediest = 0;
    for (const Share& share : shareOut(model, settings)) {
        RankPlan rank = rankPlanOf(share);
        const std::uint64_t leastOfRank = estimateMemory(rank, share.weights, step, settings);
        if (leastOfRank > least) least = leastOfRank, neediest = plan.ranks.size();
        plan.ranks.push_back(std::move(rank));
    }
    if (settings.memoryLimit > 0 && settings.memoryLimit < least) {
        throw UsageError(
            "--memory-limit {} is too small: rank {} needs {} even with its layers streamed one by one; give at least "
            "--memory-limit {}MB",
            formatBytes(settings.memoryLimit), neediest, formatBytes(least), (least + 999'999) / 1'000'000);
    }
    warnOfIdleRanks(plan, model.layers.size());
    return plan;
}

}  // namespace aimerge
