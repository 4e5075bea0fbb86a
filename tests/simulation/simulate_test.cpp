// Jobs whose times a reader can work out on paper: layers of 100 bytes and 10 operations, on a machine that does one
// operation in a second.

#include "aimerge/simulation/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kLayerBytes = 100;
constexpr double kForward = 10;  // seconds of a micro-batch in a layer

/// Everything at once but the forward passes.
Machine idealMachine(int ranks) {
    Machine machine;
    machine.name = "paper";
    machine.ranksPerNode = ranks;
    machine.flopsPerSecond = 1;
    machine.mergeBytesPerSecond = machine.digestBytesPerSecond = Machine::kUnlimited;
    return machine;
}

/// Every rank has one layer of each replica's model; micro-batches are one sequence of one token.
SimulatedJob calibration(int stages, int microBatches, int replicas = 1) {
    SimulatedJob job;
    job.machine = idealMachine(stages * replicas);
    job.settings.merging = false;
    job.settings.blocks = microBatches;
    job.settings.blockLength = 1;
    job.settings.computeDtype = Dtype::F32;
    job.layers = stages;
    job.hiddenSize = 25;  // 100 bytes a hidden state
    job.plan.replicas = replicas;
    for (int r = 0; r < stages * replicas; ++r) {
        RankPlan& rank = job.plan.ranks.emplace_back();
        rank.replica = r / stages;
        rank.firstLayer = r % stages;
        rank.endLayer = rank.firstLayer + 1;
        rank.calibrationBytesToRead = rank.calibrationWeightBytes = kLayerBytes;
        rank.calibrationFlops = kForward * microBatches / replicas;
        rank.hiddenStates = 3;
    }
    return job;
}

double calibrationSeconds(const SimulatedJob& job) {
    return simulate(job).calibrate.value().seconds;
}

TEST(SimulatedCalibration, OfOneRankIsTheSumOfItsParts) {
    SimulatedJob job = calibration(1, 8);
    job.machine.nodeReadBytesPerSecond = 4;

    const PhaseTimes times = simulate(job).calibrate.value();

    EXPECT_DOUBLE_EQ(times.seconds, 25 + 8 * kForward);
    EXPECT_DOUBLE_EQ(times.share(TimeUse::Reading), 25 / times.seconds);
    EXPECT_DOUBLE_EQ(times.share(TimeUse::Computing), 8 * kForward / times.seconds);
}

TEST(SimulatedCalibration, OfEqualStagesTakesStagesAndMicroBatchesLessOne) {
    for (const int stages : {2, 3, 4, 16, 61})
        for (const int microBatches : {1, 2, 3, 32}) {
            const SimulatedJob job = calibration(stages, microBatches);

            const PhaseTimes times = simulate(job).calibrate.value();

            EXPECT_NEAR(times.seconds, (stages + microBatches - 1) * kForward, 1e-6) << stages << " " << microBatches;
            EXPECT_NEAR(times.share(TimeUse::Computing), microBatches * kForward / times.seconds, 1e-6);
        }
}

TEST(SimulatedCalibration, WaitsForASlowLink) {
    SimulatedJob job = calibration(2, 5);
    job.machine.messageBytesPerSecond = 100 / 15.0;  // 15 s a hidden state

    // The first state leaves after 10 s; each takes 15; after the last one 10 s of work are left.
    EXPECT_NEAR(calibrationSeconds(job), 10 + 5 * 15 + 10, 1e-6);
}

TEST(SimulatedCalibration, HidesALinkThatIsFasterThanTheWork) {
    SimulatedJob job = calibration(2, 5);
    job.machine.messageBytesPerSecond = 100 / 4.0;

    EXPECT_NEAR(calibrationSeconds(job), 10 + 4 + 5 * 10, 1e-6);
}

TEST(SimulatedCalibration, BetweenNodesGoesByTheLinksOfNodes) {
    SimulatedJob job = calibration(4, 1);
    job.machine.nodes = 2;
    job.machine.ranksPerNode = 2;
    job.machine.nodeBytesPerSecond = 100 / 7.0;
    job.machine.latencySeconds = 1;

    // Three messages, one of which leaves a node; then the last rank tells rank 0 what it has summed, of which there is
    // nothing here.
    EXPECT_NEAR(calibrationSeconds(job), 4 * 10 + 3 * 1 + 7 + 1, 1e-6);
}

TEST(SimulatedCalibration, ReadsAsFastAsAllNodesTogetherMay) {
    SimulatedJob job = calibration(4, 1);
    job.machine.nodes = 2;
    job.machine.ranksPerNode = 2;
    job.machine.nodeReadBytesPerSecond = 10;
    EXPECT_NEAR(calibrationSeconds(job), 20 + 40, 1e-6);

    job.machine.readBytesPerSecond = 16;
    EXPECT_NEAR(calibrationSeconds(job), 25 + 40, 1e-6);

    job.machine.rankReadBytesPerSecond = 2;
    EXPECT_NEAR(calibrationSeconds(job), 50 + 40, 1e-6);
}

TEST(SimulatedCalibration, IsNoFasterThanItsWeightsComeFromMemory) {
    SimulatedJob job = calibration(1, 8);
    job.machine.weightBytesPerSecond = 5;

    EXPECT_NEAR(calibrationSeconds(job), 8 * 20, 1e-6);
}

TEST(SimulatedCalibration, OfReplicasSharesOutTheMicroBatches) {
    EXPECT_NEAR(calibrationSeconds(calibration(2, 32, 4)), (2 + 8 - 1) * kForward, 1e-6);
}

TEST(SimulatedCalibration, GathersASumForEachPartOfTheCorpus) {
    SimulatedJob job = calibration(1, 16, 2);
    job.plan.ranks[1].statisticsBytes = 30;
    job.machine.messageBytesPerSecond = 10;

    // The second replica has 8 of the 16 parts, which only rank 0 can add up in order.
    EXPECT_NEAR(calibrationSeconds(job), 8 * kForward + 8 * 3, 1e-6);
}

TEST(SimulatedCalibration, ThatStreamsReadsTheLayersForEveryGroup) {
    SimulatedJob job = calibration(1, 6);
    RankPlan& rank = job.plan.ranks.front();
    rank.endLayer = job.layers = 5;
    rank.streamsLayers = true;
    rank.hiddenStates = 2;
    job.machine.nodeReadBytesPerSecond = 1;

    EXPECT_NEAR(calibrationSeconds(job), 3 * 100 + 6 * kForward, 1e-6);
}

TEST(SimulatedCalibration, ThatStreamsFillsThePipelineGroupByGroup) {
    SimulatedJob job = calibration(4, 6);
    for (RankPlan& rank : job.plan.ranks) rank.streamsLayers = true, rank.hiddenStates = 6;
    job.plan.streamedGroups = 3;
    job.machine.rankReadBytesPerSecond = 100 / 8.0;

    // The last stage has read its layer and gets its first micro-batch after three times 10 s; then it works through three
    // groups of two, and reads twice more.
    EXPECT_NEAR(calibrationSeconds(job), 8 + 3 * 10 + 3 * 20 + 2 * 8, 1e-6);
}

TEST(SimulatedCalibration, ThatIsSequentialHasOneStageAtWork) {
    SimulatedJob job = calibration(3, 4);
    job.settings.mergedAtOnceBytes = 1;
    for (RankPlan& rank : job.plan.ranks) rank.bytesToRead = 500;
    job.machine.rankReadBytesPerSecond = 10;

    // The layer of the base and those of the models, each followed by all micro-batches.
    EXPECT_NEAR(calibrationSeconds(job), 3 * (10 + 40 + 50 + 40), 1e-6);
}

TEST(SimulatedCalibration, BeginsWithTheDigestOfTheBaseByOneReader) {
    SimulatedJob job = calibration(4, 1);
    job.baseBytes = 400;
    job.machine.nodeReadBytesPerSecond = 8;

    const JobTimes times = simulate(job);

    EXPECT_NEAR(times.prepare.value().seconds, 50, 1e-6);
    EXPECT_EQ(times.prepare->idleRanks(), 3u);
    EXPECT_NEAR(times.seconds(), times.prepare->seconds + times.calibrate->seconds, 1e-6);
    EXPECT_FALSE(times.merge);
    EXPECT_THAT(timesTable(times, job.machine), HasSubstr("prepare        50s        25%          -          -          -   "
                                                          "       -        75%   3 of 4 ranks do nothing"));
}

SimulatedJob merge(std::vector<std::uint64_t> written) {
    SimulatedJob job;
    job.machine = idealMachine(static_cast<int>(written.size()));
    for (const std::uint64_t bytes : written) {
        RankPlan& rank = job.plan.ranks.emplace_back();
        rank.bytesToRead = 4 * bytes;
        rank.bytesToWrite = bytes;
    }
    return job;
}

PhaseTimes mergeTimes(const SimulatedJob& job) {
    return simulate(job).merge.value();
}

constexpr std::uint64_t kGigabyte = 1'000'000'000;

TEST(SimulatedMerge, IsAsFastAsWhatItIsShortestOf) {
    SimulatedJob job = merge({4 * kGigabyte, 4 * kGigabyte});
    job.machine.nodeReadBytesPerSecond = 8e9;
    EXPECT_NEAR(mergeTimes(job).seconds, 4, 1e-6);
    EXPECT_NEAR(mergeTimes(job).share(TimeUse::Reading), 1, 1e-6);

    job.machine.nodeWriteBytesPerSecond = 1e9;
    EXPECT_NEAR(mergeTimes(job).seconds, 8, 1e-6);
    EXPECT_NEAR(mergeTimes(job).share(TimeUse::Writing), 1, 1e-6);

    job.machine.mergeBytesPerSecond = 2e9;
    EXPECT_NEAR(mergeTimes(job).seconds, 10, 1e-6);
    EXPECT_NEAR(mergeTimes(job).share(TimeUse::Computing), 1, 1e-6);
}

TEST(SimulatedMerge, WaitsForTheRankWithMostToDo) {
    SimulatedJob job = merge({4 * kGigabyte, 1 * kGigabyte, 0, 0});
    job.machine.mergeBytesPerSecond = 1e9;

    const PhaseTimes times = mergeTimes(job);

    EXPECT_NEAR(times.seconds, 20, 1e-6);
    EXPECT_EQ(times.idleRanks(), 2u);
    EXPECT_NEAR(times.share(TimeUse::Waiting), (15 + 20 + 20) / 80.0, 1e-6);
}

TEST(SimulatedMerge, ThroughRankZeroIsAsFastAsRankZeroWrites) {
    SimulatedJob job = merge({8 * kGigabyte, 8 * kGigabyte, 8 * kGigabyte, 8 * kGigabyte});
    job.gathersAtRoot = true;
    job.machine.nodes = 4;
    job.machine.ranksPerNode = 1;
    job.machine.nodeWriteBytesPerSecond = 1e9;
    EXPECT_NEAR(mergeTimes(job).seconds, 32, 1e-6);

    job.machine.nodeBytesPerSecond = 0.5e9;
    // A quarter of it is rank 0's own, which does not write while it takes.
    EXPECT_NEAR(mergeTimes(job).seconds, 8 + 24 / 0.5, 1e-6);

    job.gathersAtRoot = false;
    EXPECT_NEAR(mergeTimes(job).seconds, 8, 1e-6);
}

}  // namespace
}  // namespace aimerge
