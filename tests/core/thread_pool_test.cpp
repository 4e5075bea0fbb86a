#include "aimerge/core/thread_pool.h"

#include "aimerge/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace aimerge {
namespace {

class ThreadPoolOf : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolOf, RunsEveryIndexOnceOnAValidWorker) {
    ThreadPool pool(GetParam());
    EXPECT_EQ(pool.threads(), GetParam());

    for (std::size_t count : {0, 1, 2, 7, 1000}) {
        std::vector<int> runs(count, 0);
        std::atomic<bool> workersAreValid = true;
        pool.forEach(count, [&](std::size_t index, int worker) {
            ++runs[index];
            if (worker < 0 || worker >= pool.threads()) workersAreValid = false;
        });
        EXPECT_EQ(runs, std::vector<int>(count, 1));
        EXPECT_TRUE(workersAreValid);
    }
}

TEST_P(ThreadPoolOf, RethrowsTheExceptionOfTheLowestFailedIndexAndGoesOnWorking) {
    ThreadPool pool(GetParam());
    for (int round = 0; round < 200; ++round) {
        EXPECT_THAT(
            [&] {
                pool.forEach(100, [](std::size_t index, int) {
                    if (index >= 20) throw RuntimeFault("index {} failed", index);
                });
            },
            testing::ThrowsMessage<RuntimeFault>("index 20 failed"));
    }
    std::atomic<int> runs = 0;
    pool.forEach(10, [&](std::size_t, int) { ++runs; });
    EXPECT_EQ(runs, 10);
}

TEST_P(ThreadPoolOf, StartsNoFurtherIndexAfterAnException) {
    ThreadPool pool(GetParam());
    std::atomic<int> started = 0;

    EXPECT_THROW(pool.forEach(1'000'000,
                              [&](std::size_t, int) {
                                  ++started;
                                  throw RuntimeFault("no");
                              }),
                 RuntimeFault);

    EXPECT_LE(started, GetParam());  // at most one per worker before each of them sees the failure
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolOf, testing::Values(1, 2, 4, 13), testing::PrintToStringParamName());

// Two indices that wait for each other finish only if two threads run them.
TEST(ThreadPool, ReallyRunsInParallel) {
    ThreadPool pool(2);
    std::atomic<int> arrived = 0;
    pool.forEach(2, [&](std::size_t, int) {
        ++arrived;
        while (arrived < 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
}

// Plain writes of one round must be visible to the caller and to the next round: thread sanitizer checks the ordering.
TEST(ThreadPool, RoundsAreOrderedInMemory) {
    ThreadPool pool(4);
    std::vector<int> values(64, 0);
    for (int round = 0; round < 500; ++round)
        pool.forEach(values.size(), [&](std::size_t index, int) { values[values.size() - 1 - index] += 1; });
    EXPECT_EQ(values, std::vector<int>(64, 500));
}

TEST(ThreadPool, RefusesLessThanOneThread) {
    EXPECT_THAT([] { ThreadPool pool(0); },
                testing::ThrowsMessage<UsageError>(testing::HasSubstr("0 threads were asked for")));
}

}  // namespace
}  // namespace aimerge
