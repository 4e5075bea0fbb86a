#include "aimerge/core/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace aimerge {
namespace {

TEST(Progress, LineMakesSenseAlone) {
    EXPECT_EQ(progressLine({.phase = "merge",
                            .items = "tensors",
                            .done = 120,
                            .total = 363,
                            .doneBytes = 8'100'000'000,
                            .totalBytes = 24'200'000'000,
                            .seconds = 256.5}),
              "merge    120/363 tensors   33%   8.1 of 24.2 GB   31.6 MB/s   left 8m30s");
}

TEST(Progress, LineWithoutBytesEstimatesFromItems) {
    EXPECT_EQ(progressLine({.phase = "calibrate", .items = "blocks", .done = 64, .total = 256, .seconds = 20}),
              "calibrate 64/256 blocks   25%   left 1m00s");
}

TEST(Progress, LineAtTheBeginningPromisesNothing) {
    EXPECT_EQ(progressLine({.phase = "merge", .items = "tensors", .done = 0, .total = 3}), "merge    0/3 tensors   0%");
}

TEST(Progress, TheLastWhileTellsTheRate) {
    // The first 8 GB came from memory in 2 s; 0.1 GB took the next 10.
    EXPECT_EQ(progressLine({.phase = "merge",
                            .items = "tensors",
                            .done = 121,
                            .total = 363,
                            .doneBytes = 8'100'000'000,
                            .totalBytes = 9'100'000'000,
                            .seconds = 12,
                            .recentDone = 1,
                            .recentBytes = 100'000'000,
                            .recentSeconds = 10}),
              "merge    121/363 tensors   33%   8.1 of 9.1 GB   10.0 MB/s   left 1m40s");
    EXPECT_EQ(progressLine({.phase = "calibrate",
                            .items = "blocks",
                            .done = 64,
                            .total = 70,
                            .seconds = 20,
                            .recentDone = 2,
                            .recentSeconds = 10}),
              "calibrate 64/70 blocks   91%   left 30s");
}

TEST(Progress, LastLineSaysHowLongItTook) {
    EXPECT_EQ(progressLine({.phase = "merge", .items = "tensors", .done = 3, .total = 3, .seconds = 75, .last = true}),
              "merge    3/3 tensors   100%   took 1m15s");
}

std::string shownBy(ProgressMode mode, int times) {
    testing::internal::CaptureStderr();
    Progress progress(mode, "merge", "tensors", static_cast<std::uint64_t>(times), 0);
    for (int i = 0; i < times; ++i) progress.advance(1, 0);
    progress.finish();
    progress.finish();
    return testing::internal::GetCapturedStderr();
}

TEST(Progress, ABatchLogGetsOneLineForAShortPhase) {
    EXPECT_THAT(shownBy(ProgressMode::Plain, 1000),
                testing::MatchesRegex("merge    1000/1000 tensors   100%   took [^\n]*\n"));
}

TEST(Progress, WithoutATerminalAutoIsPlain) {
    EXPECT_THAT(shownBy(ProgressMode::Auto, 5), testing::Not(testing::HasSubstr("\r")));
}

TEST(Progress, NoneShowsNothing) {
    EXPECT_EQ(shownBy(ProgressMode::None, 5), "");
}

TEST(Progress, ABarEndsWithALineBreak) {
    EXPECT_EQ(shownBy(ProgressMode::Bar, 0).substr(0, 57), "\r[####################] merge    0/0 tensors   100%   too");
    EXPECT_TRUE(shownBy(ProgressMode::Bar, 0).ends_with("\n"));
}

TEST(Progress, AFunctionHearsTheEndInThePlaceOfStandardError) {
    std::vector<ProgressState> heard;
    testing::internal::CaptureStderr();
    Progress progress(ProgressListener([&](const ProgressState& state) { heard.push_back(state); }), "merge", "tensors", 3,
                      30);
    for (int i = 0; i < 3; ++i) progress.advance(1, 10);
    progress.finish();
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    ASSERT_FALSE(heard.empty());
    EXPECT_TRUE(heard.back().last);
    EXPECT_EQ(heard.back().phase, "merge");
    EXPECT_EQ(heard.back().done, 3u);
    EXPECT_EQ(heard.back().doneBytes, 30u);
}

TEST(Progress, CountsAdvancesOfSeveralThreads) {
    testing::internal::CaptureStderr();
    {
        Progress progress(ProgressMode::Plain, "merge", "tensors", 4000, 0);
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&] {
                for (int j = 0; j < 1000; ++j) progress.advance(1, 0);
            });
        for (std::thread& thread : threads) thread.join();
        progress.finish();
    }
    EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("4000/4000"));
}

}  // namespace
}  // namespace aimerge
