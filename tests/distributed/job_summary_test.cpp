#include "aimerge/distributed/job_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace aimerge {
namespace {

using testing::HasSubstr;

PhaseFigures phase(const std::string& name, double seconds, double idle = 0) {
    return {.name = name, .seconds = seconds, .idleSeconds = idle};
}

/// Four seconds of two ranks: rank 0 works 4, rank 1 works 1 and waits 1, then is done.
std::vector<RankRecord> twoRanks() {
    RankRecord first{"n1", "CPU", 1, 100'000'000, {phase("prepare", 1), phase("merge", 4)}};
    first.phases[1].bytesRead = 6'000'000'000;
    first.phases[1].bytesWritten = 2'000'000'000;
    RankRecord second{"n2", "NVIDIA H100", 16, 200'000'000, {phase("merge", 2, 1)}};
    second.phases[0].bytesRead = 4'000'000'000;
    second.phases[0].peakDeviceBytes = 7'000'000'000;
    return {first, second};
}

TEST(JobSummary, AddsUpBytesAndTakesTheLongestTime) {
    const std::vector<PhaseSummary> summary = summaryOf(twoRanks());
    ASSERT_EQ(summary.size(), 2U);
    EXPECT_EQ(summary[1].name, "merge");
    EXPECT_EQ(summary[1].seconds, 4);
    EXPECT_EQ(summary[1].bytesRead, 10'000'000'000);
    EXPECT_EQ(summary[1].bytesWritten, 2'000'000'000);
    EXPECT_EQ(summary[1].bytesPerSecond(), 3e9);
}

TEST(JobSummary, IdleIsWhatNoRankWorked) {
    EXPECT_DOUBLE_EQ(summaryOf(twoRanks())[1].idleShare, 1 - 5.0 / 8);
}

TEST(JobSummary, ARankWithoutThePhaseWasIdle) {
    EXPECT_DOUBLE_EQ(summaryOf(twoRanks())[0].idleShare, 0.5);
}

TEST(JobSummary, TheSlowestRankIsTheOneThatWorkedLongestNotTheOneThatWaited) {
    EXPECT_EQ(
        summaryOf({{"n", "CPU", 1, 0, {phase("calibrate", 10, 9)}}, {"n", "CPU", 1, 0, {phase("calibrate", 10, 2)}}})[0]
            .slowest,
        1U);
}

TEST(JobSummary, TokensPerSecondCountEveryTokenOnce) {
    RankRecord first{"n", "CPU", 1, 0, {phase("calibrate", 4)}}, second = first;
    first.phases[0].tokens = 8192;
    EXPECT_EQ(summaryOf({first, second})[0].tokensPerSecond(), 2048);
}

TEST(JobSummary, RecordsSurviveTheirTravel) {
    const RankRecord sent = twoRanks()[1], come = RankRecord::fromJson(sent.toJson());
    EXPECT_EQ(come.toJson(), sent.toJson());
    EXPECT_EQ(come.host, "n2");
    EXPECT_EQ(come.threads, 16);
    EXPECT_EQ(come.phases[0].idleSeconds, 1);
    EXPECT_EQ(come.phases[0].peakDeviceBytes, 7'000'000'000);
}

TEST(JobSummary, TableHasALinePerPhaseAndRank) {
    EXPECT_EQ(summaryTable(twoRanks()),
              "phase            time     read  written       rate  tokens/s   idle  slowest\n"
              "prepare          1.0s        -        -          -         -    50%   rank 0\n"
              "merge            4.0s  10.0 GB  2.00 GB  3.00 GB/s         -    38%   rank 0\n"
              "rank 0: n1, 1 thread, CPU, at most 100 MB of memory\n"
              "rank 1: n2, 16 threads, NVIDIA H100, at most 200 MB of memory and 7.00 GB of the GPU's\n");
}

TEST(JobSummary, NothingMeasuredIsNothingSaid) {
    EXPECT_EQ(summaryTable({{"n", "CPU", 1, 1, {}}}), "");
}

TEST(JobSummary, JsonHasPhasesAndRanks) {
    const nlohmann::ordered_json json = summaryJson(twoRanks());
    EXPECT_EQ(json["phases"][1]["idle_share"], 0.375);
    EXPECT_EQ(json["phases"][1]["slowest_rank"], 0);
    EXPECT_EQ(json["ranks"][1]["rank"], 1);
    EXPECT_EQ(json["ranks"][1]["device"], "NVIDIA H100");
    EXPECT_EQ(json["ranks"][1]["phases"][0]["peak_device_memory_bytes"], 7'000'000'000);
}

TEST(Phase, TwoOfOneNameAreAddedUp) {
    for (int i = 0; i < 2; ++i) {
        Phase measured("twice");
        measured.addWritten(5);
        measured.addIdle(0.25);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    const auto found = std::ranges::find(recordedPhases(), "twice", &PhaseFigures::name);
    ASSERT_NE(found, recordedPhases().end());
    EXPECT_EQ(found->bytesWritten, 10U);
    EXPECT_EQ(found->idleSeconds, 0.5);
    EXPECT_GE(found->seconds, 0.004);
}

TEST(RankRecord, IsOfThisProcess) {
    const RankRecord record = recordOfThisRank("CPU", 3);
    EXPECT_EQ(record.device, "CPU");
    EXPECT_EQ(record.threads, 3);
    EXPECT_FALSE(record.host.empty());
    EXPECT_GT(record.peakMemoryBytes, 1'000'000U);
}

}  // namespace
}  // namespace aimerge
