#include "aimerge/distributed/plan.h"

#include "aimerge/core/error.h"
#include "aimerge/core/size_text.h"
#include "distributed/balance.h"
#include "distributed/memory_estimate.h"
#include "distributed/work_estimate.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

namespace aimerge {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankPlan, replica, firstLayer, endLayer, embedding, head, tensors, bytesToRead,
                                   bytesToWrite, calibrationWeightBytes, calibrationBytesToRead, statisticsBytes,
                                   hiddenStates, hiddenStateBytes, streamsLayers, peakMemoryBytes, calibrationFlops)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Plan, ranks, replicas, streamedGroups)

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
std::vector<std::size_t> layerEnds(const ModelWork& model, std::size_t active, const Hardware& hardware) {
    std::vector<double> seconds;
    for (const Work& layer : model.layers) seconds.push_back(estimatedSeconds(layer, hardware));
    if (seconds.empty()) return std::vector<std::size_t>(active, 0);
    seconds.front() += estimatedSeconds(model.embedding, hardware);
    seconds.back() += estimatedSeconds(model.end, hardware);
    return balanceContiguous(seconds, active);
}

std::vector<Share> shareOut(const ModelWork& model, int over, const Hardware& hardware) {
    const std::size_t ranks = static_cast<std::size_t>(over), layers = model.layers.size();
    const std::size_t active = layers == 0 ? ranks : std::min(ranks, layers);
    const std::vector<std::size_t> ends = layerEnds(model, active, hardware);
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
        return estimatedSeconds(a.work, hardware) < estimatedSeconds(b.work, hardware);
    };
    const auto activeEnd = shares.begin() + static_cast<std::ptrdiff_t>(active);
    for (const Work& other : model.others) std::min_element(shares.begin(), activeEnd, hasLess)->work.add(other);
    return shares;
}

void setMerging(RankPlan& rank, const Work& work) {
    rank.tensors = work.tensors;
    rank.bytesToRead = work.bytesToRead;
    rank.bytesToWrite = work.bytesToWrite;
}

RankPlan rankPlanOf(const Share& share) {
    RankPlan rank;
    rank.firstLayer = static_cast<std::int64_t>(share.firstLayer);
    rank.endLayer = static_cast<std::int64_t>(share.endLayer);
    rank.embedding = share.embedding;
    rank.head = share.head;
    setMerging(rank, share.work);
    rank.calibrationWeightBytes = share.work.weightBytes;
    rank.calibrationBytesToRead = share.work.calibrationBytesToRead;
    rank.statisticsBytes = share.work.statisticsBytes;
    rank.calibrationFlops = share.work.calibrationFlops;
    return rank;
}

/// What each of several replicas does of a calibration.
PlanSettings ofReplica(const PlanSettings& settings, int replicas) {
    PlanSettings own = settings;
    own.blocks = (settings.blocks + replicas - 1) / replicas;
    return own;
}

std::int64_t microBatches(const PlanSettings& settings) {
    return (settings.blocks + settings.microBatch - 1) / settings.microBatch;
}

/// How much longer a pipeline takes than its slowest stage: the last one waits until all others have had a micro-batch.
double filling(const PlanSettings& settings, int stages, int replicas) {
    return 1 + (stages - 1) * static_cast<double>(replicas) / static_cast<double>(microBatches(settings));
}

/// A calibration's time when its pipeline of ranks / replicas stages runs `replicas` times: every replica reads the model.
/// Infinite when a stage does not fit the
/// limit with all its layers.
double calibrationSeconds(const ModelWork& model, const StepMemory& step, const PlanSettings& settings, int replicas) {
    const int stages = settings.ranks / replicas;
    double slowest = 0;
    std::uint64_t weightBytes = 0;
    for (const Share& share : shareOut(model, stages, settings.hardware)) {
        RankPlan rank = rankPlanOf(share);
        estimateMemory(rank, share.weights, step, ofReplica(settings, replicas));
        if (rank.streamsLayers) return std::numeric_limits<double>::infinity();
        slowest = std::max(slowest, estimatedSeconds(share.work, settings.hardware));
        weightBytes += rank.calibrationWeightBytes;
    }
    const double reading = static_cast<double>(weightBytes) / stages / settings.hardware.bytesPerSecond;
    return slowest / replicas * filling(settings, stages, replicas) + reading;
}

/// @throws UsageError
int givenReplicas(const PlanSettings& settings) {
    const int stages = settings.stages > 0 ? settings.stages : std::max(1, settings.ranks / std::max(1, settings.replicas));
    const int replicas = settings.replicas > 0 ? settings.replicas : std::max(1, settings.ranks / stages);
    if (stages * replicas != settings.ranks)
        throw UsageError("stages {} x replicas {} = {} ranks; the job has {}", stages, replicas, stages * replicas,
                         settings.ranks);
    if (replicas > kMostReplicas) throw UsageError("--replicas {}: at most {}", replicas, kMostReplicas);
    if (replicas > microBatches(settings))
        throw UsageError("{} replicas, but the calibration has {} micro-batches; give fewer --replicas", replicas,
                         microBatches(settings));
    return replicas;
}

/// How many replicas calibrate. @param model its calibration alone
int replicasFor(const ModelWork& model, const StepMemory& step, const PlanSettings& settings) {
    if (settings.blocks == 0) return 1;
    if (settings.stages > 0 || settings.replicas > 0) return givenReplicas(settings);
    if (settings.memoryLimit == 0) return 1;  // who knows whether a rank can hold more than its part of the layers
    int best = 1;
    double least = calibrationSeconds(model, step, settings, 1);
    const auto most = static_cast<int>(std::min<std::int64_t>({settings.ranks, kMostReplicas, microBatches(settings)}));
    for (int replicas = 2; replicas <= most; ++replicas) {
        if (settings.ranks % replicas != 0 || std::cmp_greater(settings.ranks / replicas, model.layers.size())) continue;
        const double seconds = calibrationSeconds(model, step, settings, replicas);
        if (seconds < least) least = seconds, best = replicas;
    }
    return best;
}

/// Rank by rank, with what it takes to estimate its memory.
struct PlannedRank {
    RankPlan plan;
    StageWeights weights;
};

std::vector<PlannedRank> onePipeline(const ModelWork& model, const PlanSettings& settings) {
    std::vector<PlannedRank> ranks;
    for (const Share& share : shareOut(model, settings.ranks, settings.hardware))
        ranks.push_back({rankPlanOf(share), share.weights});
    return ranks;
}

/// The pipelines of a calibration; nothing is merged yet.
std::vector<PlannedRank> pipelines(const ModelWork& calibration, const PlanSettings& settings, int replicas) {
    const std::vector<Share> stages = shareOut(calibration, settings.ranks / replicas, settings.hardware);
    std::vector<PlannedRank> ranks;
    for (std::size_t r = 0; std::cmp_less(r, settings.ranks); ++r) {
        const Share& stage = stages[r % stages.size()];
        PlannedRank& rank = ranks.emplace_back(PlannedRank{rankPlanOf(stage), stage.weights});
        rank.plan.replica = static_cast<int>(r / stages.size());
        rank.plan.calibrationFlops /= replicas;
    }
    return ranks;
}

/// @param calibration, merge the model's work of either
std::vector<PlannedRank> severalPipelines(const ModelWork& calibration, const ModelWork& merge, const PlanSettings& settings,
                                          int replicas) {
    std::vector<PlannedRank> ranks = pipelines(calibration, settings, replicas);
    const std::vector<Share> merging = shareOut(merge, settings.ranks, settings.hardware);
    for (std::size_t r = 0; r < ranks.size(); ++r) setMerging(ranks[r].plan, merging[r].work);
    return ranks;
}

/// Tensors one by one, the largest first, each to the rank that has least to do.
std::vector<Work> shareOutTensors(const std::vector<Work>& tensors, int over, const Hardware& hardware) {
    std::vector<std::size_t> largestFirst(tensors.size()), ownerOf(tensors.size());
    std::iota(largestFirst.begin(), largestFirst.end(), std::size_t{0});
    std::ranges::stable_sort(largestFirst, std::greater{},
                             [&](std::size_t tensor) { return estimatedSeconds(tensors[tensor], hardware); });
    using Load = std::pair<double, std::size_t>;  // seconds, rank
    std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
    for (int rank = 0; rank < over; ++rank) loads.emplace(0.0, static_cast<std::size_t>(rank));
    for (const std::size_t tensor : largestFirst) {
        const auto [seconds, rank] = loads.top();
        loads.pop();
        loads.emplace(seconds + estimatedSeconds(tensors[tensor], hardware), rank);
        ownerOf[tensor] = rank;
    }
    std::vector<Work> ofRanks(static_cast<std::size_t>(over));
    for (std::size_t tensor = 0; tensor < tensors.size(); ++tensor) ofRanks[ownerOf[tensor]].add(tensors[tensor]);
    return ofRanks;
}

double mergeSeconds(std::uint64_t bytesToRead, std::uint64_t bytesToWrite, const Hardware& hardware) {
    return static_cast<double>(bytesToRead + bytesToWrite) / hardware.bytesPerSecond;
}

/// Whole layers per rank leave ranks idle where there are more of them than layers, and may give one twice as much as
/// another where there are nearly as many. Then ranks merge other tensors than they calibrate.
void evenOutMerge(std::vector<PlannedRank>& ranks, const std::vector<Work>& tensors, const ModelWork& calibration,
                  const PlanSettings& settings, int replicas) {
    constexpr double kWorthIt = 1.25;  // below, a rank's layers stay together: some are in its node's memory already
    const std::vector<Work> even = shareOutTensors(tensors, settings.ranks, settings.hardware);
    double slowest = 0, slowestEven = 0;
    for (std::size_t r = 0; r < ranks.size(); ++r) {
        slowest = std::max(slowest, mergeSeconds(ranks[r].plan.bytesToRead, ranks[r].plan.bytesToWrite, settings.hardware));
        slowestEven = std::max(slowestEven, mergeSeconds(even[r].bytesToRead, even[r].bytesToWrite, settings.hardware));
    }
    if (slowest <= kWorthIt * slowestEven) return;
    if (settings.blocks > 0) ranks = pipelines(calibration, settings, replicas);
    for (std::size_t r = 0; r < ranks.size(); ++r) setMerging(ranks[r].plan, even[r]);
}

/// Every group reads the layers anew, R seconds in a stage, and a stage's work takes C: in G groups, S stages take
/// (G + S - 1) (R + C / G), which is least with G = sqrt((S - 1) C / R).
std::int64_t streamedGroups(const std::vector<PlannedRank>& ranks, const PlanSettings& settings, int stages) {
    double working = 0, reading = 0;
    for (const PlannedRank& rank : ranks) {
        working = std::max(working, rank.plan.calibrationFlops / settings.hardware.flopsPerSecond);
        reading =
            std::max(reading, static_cast<double>(rank.plan.calibrationBytesToRead) / settings.hardware.bytesPerSecond);
    }
    constexpr double kMostGroupsPerStage = 4;  // with them, filling the pipeline takes a quarter of the work's time
    const double most = kMostGroupsPerStage * stages;
    const double best = reading > 0 ? std::sqrt((stages - 1) * working / reading) : most;
    return std::llround(std::clamp(best, 1.0, most));
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
    PlanSettings calibrating = settings, mergingAlone = settings;
    calibrating.merging = false;
    mergingAlone.blocks = 0;
    const ModelWork calibration = settings.blocks > 0 ? workOf(base, {}, calibrating) : ModelWork{};

    Plan plan;
    plan.replicas = replicasFor(calibration, step, settings);
    std::vector<PlannedRank> ranks =
        plan.replicas == 1 ? onePipeline(model, settings)
                           : severalPipelines(calibration, workOf(base, output, mergingAlone), settings, plan.replicas);
    if (settings.merging) evenOutMerge(ranks, mergeWorks(base, output, settings), calibration, settings, plan.replicas);
    const int stages = std::max(1, std::min(settings.ranks / plan.replicas, static_cast<int>(model.layers.size())));
    plan.streamedGroups = streamedGroups(ranks, settings, stages);
    std::uint64_t least = 0;
    std::size_t neediest = 0;
    for (PlannedRank& rank : ranks) {
        const std::uint64_t leastOfRank = estimateMemory(rank.plan, rank.weights, step, ofReplica(settings, plan.replicas));
        if (leastOfRank > least) least = leastOfRank, neediest = plan.ranks.size();
        plan.ranks.push_back(std::move(rank.plan));
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
