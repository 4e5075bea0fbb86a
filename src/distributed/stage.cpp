#include "aimerge/distributed/stage.h"

#include "aimerge/core/error.h"

#include <algorithm>

namespace aimerge {
namespace {

bool runsLayers(const RankPlan& rank) {
    return rank.endLayer > rank.firstLayer;
}

}  // namespace

Stage stageOf(const Plan& plan, int rank, std::int64_t layers) {
    const RankPlan& own = plan.ranks.at(static_cast<std::size_t>(rank));
    Stage stage;
    stage.rank = rank;
    stage.replica = own.replica;
    stage.pipelines.resize(static_cast<std::size_t>(plan.replicas));
    std::vector<std::int64_t> covered(stage.pipelines.size());  // layers, from the first on
    for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
        const RankPlan& entry = plan.ranks[r];
        if (!runsLayers(entry)) continue;
        const auto replica = static_cast<std::size_t>(entry.replica);
        if (entry.firstLayer != covered.at(replica))
            throw RuntimeFault("plan: rank {} begins with layer {}, expected layer {}", r, entry.firstLayer,
                               covered[replica]);
        covered[replica] = entry.endLayer;
        stage.pipelines[replica].push_back(static_cast<int>(r));
    }
    for (const std::int64_t end : covered)
        if (end != layers) throw RuntimeFault("plan: covers {} layers, the model has {}", end, layers);

    const std::vector<int>& ranks = stage.pipelines[static_cast<std::size_t>(own.replica)];
    stage.stages = static_cast<int>(ranks.size());
    for (const int other : ranks) {
        if (other < rank) stage.previous = other;
        if (other > rank && stage.next < 0) stage.next = other;
    }
    if (runsLayers(own)) {
        stage.firstLayer = own.firstLayer;
        stage.endLayer = own.endLayer;
        stage.streamsLayers = own.streamsLayers;
    }
    return stage;
}

int Stage::number() const {
    const std::vector<int>& ranks = pipelines[static_cast<std::size_t>(replica)];
    return static_cast<int>(std::ranges::find(ranks, rank) - ranks.begin());
}

int lastStage(const Plan& plan) {
    int last = 0;
    for (std::size_t r = 0; r < plan.ranks.size(); ++r)
        if (runsLayers(plan.ranks[r]) && plan.ranks[r].replica == 0) last = static_cast<int>(r);
    return last;
}

std::vector<int> idleRanks(const Plan& plan) {
    std::vector<int> idle;
    for (std::size_t r = 0; r < plan.ranks.size(); ++r)
        if (!runsLayers(plan.ranks[r])) idle.push_back(static_cast<int>(r));
    return idle;
}

MicroBatches::MicroBatches(std::int64_t blocks, std::int64_t sequencesPerStep, int replica, int replicas)
    : blocks_(blocks),
      sequencesPerStep_(sequencesPerStep),
      stepsOfAll_((blocks + sequencesPerStep - 1) / sequencesPerStep),
      parts_(std::min<std::int64_t>(kMostReplicas, stepsOfAll_)) {
    const auto firstStepOf = [&](int r) {
        const std::int64_t firstPart = r * parts_ / replicas;
        return parts_ == 0 ? 0 : stepsOfAll_ * firstPart / parts_;
    };
    firstStep_ = firstStepOf(replica);
    endStep_ = firstStepOf(replica + 1);
}

std::int64_t MicroBatches::blocks() const {
    return std::min(blocks_, endStep_ * sequencesPerStep_) - firstStep_ * sequencesPerStep_;
}

int MicroBatches::partOf(std::int64_t firstBlock) const {
    const std::int64_t step = firstBlock / sequencesPerStep_;
    return static_cast<int>(((step + 1) * parts_ - 1) / stepsOfAll_);
}

std::vector<StepShape> MicroBatches::shapes(std::int64_t length) const {
    std::vector<StepShape> shapes;
    for (std::int64_t step = 0; step < count(); ++step) shapes.push_back({sequences(step), length});
    return shapes;
}

std::int64_t groupSize(const MicroBatches& steps, std::int64_t groups, std::optional<std::int64_t> fitting) {
    const std::int64_t wanted = std::max<std::int64_t>(1, (steps.count() + groups - 1) / groups);
    return fitting ? std::clamp<std::int64_t>(*fitting, 1, wanted) : wanted;
}

}  // namespace aimerge
