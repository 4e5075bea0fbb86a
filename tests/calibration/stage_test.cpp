#include "aimerge/distributed/stage.h"

#include "aimerge/core/error.h"
#include "calibration/group_size.h"
#include "calibration/stage_report.h"
#include "model/golden_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Plan planOf(const std::vector<std::pair<std::int64_t, std::int64_t>>& layers) {
    Plan plan;
    for (const auto& [first, end] : layers) {
        plan.ranks.emplace_back();
        plan.ranks.back().firstLayer = first;
        plan.ranks.back().endLayer = end;
    }
    return plan;
}

TEST(Stage, NeighboursAreTheNextRanksWithLayers) {
    const Plan plan = planOf({{0, 2}, {0, 0}, {2, 3}, {3, 3}, {3, 5}});

    const Stage first = stageOf(plan, 0, 5), middle = stageOf(plan, 2, 5), last = stageOf(plan, 4, 5);

    EXPECT_TRUE(first.first() && !first.last());
    EXPECT_EQ(first.next, 2);
    EXPECT_EQ(middle.previous, 0);
    EXPECT_EQ(middle.next, 4);
    EXPECT_EQ(middle.firstLayer, 2);
    EXPECT_TRUE(last.last() && !last.first());
    EXPECT_EQ(last.stages, 3);
    EXPECT_TRUE(stageOf(plan, 1, 5).empty());
    EXPECT_EQ(lastStage(plan), 4);
    EXPECT_THAT(idleRanks(plan), ElementsAre(1, 3));
}

TEST(Stage, OfAReplicaHasNeighboursInIt) {
    Plan plan = planOf({{0, 3}, {3, 5}, {0, 3}, {3, 5}});
    plan.replicas = 2;
    plan.ranks[2].replica = plan.ranks[3].replica = 1;

    const Stage stage = stageOf(plan, 2, 5);

    EXPECT_TRUE(stage.first() && !stage.last());
    EXPECT_EQ(stage.next, 3);
    EXPECT_EQ(stage.replica, 1);
    EXPECT_EQ(stage.stages, 2);
    EXPECT_EQ(stageOf(plan, 3, 5).number(), 1);
    EXPECT_THAT(stage.pipelines, ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
    EXPECT_EQ(lastStage(plan), 1);
}

TEST(Stage, LayersMustFollowOneAnotherAndCoverTheModel) {
    const auto messageOf = [](const Plan& plan) -> std::string {
        try {
            stageOf(plan, 0, 4);
            return "no exception";
        } catch (const RuntimeFault& fault) {
            return fault.what();
        }
    };

    EXPECT_THAT(messageOf(planOf({{0, 2}, {3, 4}})), HasSubstr("rank 1 begins with layer 3, expected layer 2"));
    EXPECT_THAT(messageOf(planOf({{0, 2}, {2, 3}})), HasSubstr("covers 3 layers, the model has 4"));
}

TEST(MicroBatches, TheLastStepHasWhatIsLeft) {
    const MicroBatches steps(7, 3);

    EXPECT_EQ(steps.count(), 3);
    EXPECT_EQ(steps.firstBlock(2), 6);
    EXPECT_EQ(steps.sequences(1), 3);
    EXPECT_EQ(steps.sequences(2), 1);
}

TEST(MicroBatches, AreSharedOutOverReplicasByWholeParts) {
    for (const std::int64_t blocks : {1, 5, 16, 17, 100, 333}) {
        for (const std::int64_t sequences : {1, 3}) {
            const MicroBatches all(blocks, sequences);
            for (int replicas = 1; replicas <= std::min<std::int64_t>(kMostReplicas, all.count()); ++replicas) {
                std::int64_t next = 0;
                int before = -1;
                for (int replica = 0; replica < replicas; ++replica) {
                    const MicroBatches own(blocks, sequences, replica, replicas);
                    EXPECT_EQ(own.beginsCorpus(), replica == 0);
                    EXPECT_GT(own.count(), 0) << blocks << ' ' << sequences << ' ' << replica << " of " << replicas;
                    EXPECT_GT(own.partOf(own.firstBlock(0)), before);  // no part in two replicas
                    EXPECT_LE(own.count(), (all.count() + replicas - 1) / replicas + (all.count() + 15) / 16);
                    const std::int64_t first = next;
                    for (std::int64_t step = 0; step < own.count(); ++step) {
                        EXPECT_EQ(own.firstBlock(step), next);
                        EXPECT_EQ(own.partOf(next), all.partOf(next));
                        before = own.partOf(next);
                        next += own.sequences(step);
                    }
                    EXPECT_EQ(own.blocks(), next - first);
                }
                EXPECT_EQ(next, blocks);
            }
        }
    }
}

TEST(MicroBatches, HaveAsManyPartsAsReplicasThereMayBe) {
    const MicroBatches steps(1600, 1);
    EXPECT_EQ(steps.partOf(0), 0);
    EXPECT_EQ(steps.partOf(99), 0);
    EXPECT_EQ(steps.partOf(100), 1);
    EXPECT_EQ(steps.partOf(1599), kMostReplicas - 1);
}

class GroupSize : public testing::Test {
protected:
    std::int64_t of(std::uint64_t memoryLimit, std::int64_t groups) const {
        CalibrationConfig config;
        config.dtype = Dtype::F32;
        TokenBlocks blocks;
        blocks.blocks = 100;
        blocks.length = 10;
        Plan plan;
        plan.streamedGroups = groups;
        return groupSizeOf({base_, config, plan, blocks, 1, memoryLimit}, MicroBatches(100, 1));
    }

    // Hidden 64, inner 160, 4 + 2 heads of 16, float32. A layer: 64 * (2 * 6 * 16 + 3 * 160 + 2) * 4 = 172544 bytes. Work of
    // a step of 10 tokens: 10 * (2 * 64 + 2 * 160) * 4 = 17920 bytes. A hidden state: 10 * 64 * 4 = 2560 bytes.
    const Checkpoint base_ = Checkpoint::open(goldenPath("family_f32/base").string());
};

TEST_F(GroupSize, IsEverythingWithoutALimitInOneGroup) {
    EXPECT_EQ(of(0, 1), 100);
}

TEST_F(GroupSize, IsThatOfThePlansGroups) {
    EXPECT_EQ(of(0, 20), 5);
    EXPECT_EQ(of(0, 3), 34);
}

TEST_F(GroupSize, IsWhatFitsBesideOneLayer) {
    EXPECT_EQ(of(172544 + 17920 + 7 * 2560, 1), 7);
    EXPECT_EQ(of(172544 + 17920 + 7 * 2560 - 1, 1), 6);
}

TEST_F(GroupSize, IsNeverLessThanOne) {
    EXPECT_EQ(of(1, 1), 1);
}

ChannelSums sumsOf(std::vector<double> abs, std::vector<double> squares, std::vector<float> largest, std::int64_t rows) {
    ChannelSums sums(static_cast<std::int64_t>(abs.size()));
    sums.sumAbs = std::move(abs);
    sums.sumSquares = std::move(squares);
    sums.maxAbs = std::move(largest);
    sums.rows = rows;
    return sums;
}

bool isSame(const ChannelSums& a, const ChannelSums& b) {
    return a.sumAbs == b.sumAbs && a.sumSquares == b.sumSquares && a.maxAbs == b.maxAbs && a.rows == b.rows;
}

TEST(StageReport, SurvivesTheJourney) {
    StageReport report;
    report.record = {3, 4, 9, 1.5, 2.5, 3.5, 77};
    const ChannelSums first = sumsOf({1, 2}, {3, 4}, {5, 6}, 512), second = sumsOf({7, 8}, {9, 10}, {11, 12}, 256);
    report.sums[{4, 4}] = {first, second};
    report.sums[kHeadInput] = {sumsOf({0.5}, {0.25}, {8}, 512)};

    const StageReport arrived = StageReport::fromBytes(report.toBytes());

    ASSERT_EQ(arrived.sums.size(), 2u);
    const std::vector<ChannelSums>& parts = arrived.sums.at({4, 4});
    ASSERT_EQ(parts.size(), 2u);
    EXPECT_TRUE(isSame(parts[0], first));
    EXPECT_TRUE(isSame(parts[1], second));
    EXPECT_TRUE(isSame(arrived.sums.at(kHeadInput).at(0), sumsOf({0.5}, {0.25}, {8}, 512)));
    EXPECT_EQ(arrived.record.rank, 3);
    EXPECT_EQ(arrived.record.lastLayer, 9);
    EXPECT_EQ(arrived.record.readSeconds, 3.5);
    EXPECT_EQ(arrived.record.peakMemoryBytes, 77);
}

TEST(StageReport, ShortenedBytesAreAFault) {
    StageReport report;
    report.sums[{0, 4}] = {sumsOf({1, 2}, {3, 4}, {5, 6}, 512)};
    std::string bytes = report.toBytes();
    bytes.pop_back();

    EXPECT_THROW(StageReport::fromBytes(bytes), RuntimeFault);
}

}  // namespace
}  // namespace aimerge
