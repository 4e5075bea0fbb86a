// Times that a reader can work out on paper.

#include "simulation/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>

namespace aimerge {
namespace {

using Programs = std::vector<std::vector<Operation>>;

double at(const TimeUses& rank, TimeUse use) {
    return rank[static_cast<std::size_t>(use)];
}

double lasted(const std::vector<TimeUses>& ranks) {
    return std::accumulate(ranks.front().begin(), ranks.front().end(), 0.0);
}

Move reading(std::size_t resource, double amount) {
    return {.demands = {{resource, amount, TimeUse::Reading}}};
}

StartExchange sending(int to, std::size_t resource, double amount) {
    return {.to = to, .outgoing = {.demands = {{resource, amount, TimeUse::Linking}}, .use = TimeUse::Linking}};
}

StartExchange receiving(int from) {
    StartExchange exchange;
    exchange.from = from;
    return exchange;
}

TEST(EventSimulation, ARankTakesTheSumOfWhatItDoes) {
    EventSimulation simulation;
    const std::size_t disk = simulation.addResource(10);

    const auto ranks = simulation.run({{reading(disk, 30), Compute{4}, reading(disk, 5)}});

    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Reading), 3.5);
    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Computing), 4);
    EXPECT_DOUBLE_EQ(lasted(ranks), 7.5);
}

TEST(EventSimulation, ReadersShareADiskUntilOneIsDone) {
    EventSimulation simulation;
    const std::size_t disk = simulation.addResource(10);

    const auto ranks = simulation.run({{reading(disk, 10)}, {reading(disk, 30)}});

    // Five a second each until the first has its ten; then the second has the disk for its last twenty.
    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Reading), 2);
    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Waiting), 2);
    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Reading), 4);
}

TEST(EventSimulation, WhatASlowReaderLeavesIsForTheOthers) {
    EventSimulation simulation;
    const std::size_t disk = simulation.addResource(10);
    Move slow = reading(disk, 8);
    slow.leastSeconds = 4;  // two a second

    const auto ranks = simulation.run({{slow}, {reading(disk, 32)}});

    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Reading), 4);
    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Reading), 4);
}

TEST(EventSimulation, AMoveIsAsFastAsTheScarcestOfItsResources) {
    EventSimulation simulation;
    const std::size_t disk = simulation.addResource(10), writer = simulation.addResource(2);
    const Move copying{.demands = {{disk, 20, TimeUse::Reading}, {writer, 6, TimeUse::Writing}},
                       .leastSeconds = 1,
                       .use = TimeUse::Computing};

    const auto ranks = simulation.run({{copying}});

    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Writing), 3);
    EXPECT_DOUBLE_EQ(lasted(ranks), 3);
}

TEST(EventSimulation, AMessageBeginsWhenBothSidesHaveComeToIt) {
    EventSimulation simulation;
    const std::size_t link = simulation.addResource(4);

    const auto ranks = simulation.run(
        {{Compute{3}, sending(1, link, 8), WaitForMessage{0, false}}, {receiving(0), WaitForMessage{0, true}, Compute{1}}});

    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Waiting), 3);
    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Linking), 2);
    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Computing), 1);
    EXPECT_DOUBLE_EQ(lasted(ranks), 6);
}

TEST(EventSimulation, AMessageThatIsNotWaitedForCostsNothing) {
    EventSimulation simulation;
    const std::size_t link = simulation.addResource(4);

    const auto ranks = simulation.run(
        {{sending(1, link, 8), Compute{5}, WaitForMessage{0, false}}, {receiving(0), Compute{5}, WaitForMessage{0, true}}});

    EXPECT_DOUBLE_EQ(lasted(ranks), 5);
    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Computing), 5);
}

TEST(EventSimulation, ExchangesOfARankFollowEachOther) {
    EventSimulation simulation;
    const std::size_t slow = simulation.addResource(1), fast = simulation.addResource(100);

    const auto ranks = simulation.run({{sending(1, slow, 6), sending(2, fast, 100), WaitForMessage{1, false}},
                                       {receiving(0)},
                                       {receiving(0), WaitForMessage{0, true}}});

    EXPECT_DOUBLE_EQ(lasted(ranks), 7);
}

TEST(EventSimulation, RankZeroTakesOneAfterAnother) {
    EventSimulation simulation;
    const std::size_t link = simulation.addResource(1);
    const Move sent{.demands = {{link, 3, TimeUse::Gathering}}, .use = TimeUse::Gathering, .latency = 0.5};

    const auto ranks =
        simulation.run({{Compute{2}, TakeArrived{}, Compute{1}, TakeRest{}}, {Give{sent}}, {Compute{4}, Give{sent}}});

    // Until 2 it computes, until 5.5 it takes the first, and as the second has come meanwhile, takes it too, until 9.
    EXPECT_DOUBLE_EQ(lasted(ranks), 10);
    EXPECT_DOUBLE_EQ(at(ranks[0], TimeUse::Gathering), 7);
    EXPECT_DOUBLE_EQ(at(ranks[1], TimeUse::Waiting), 2 + 4.5);
    EXPECT_DOUBLE_EQ(at(ranks[2], TimeUse::Gathering), 1.5 + 3.5);
}

TEST(EventSimulation, RanksThatWaitForEachOtherAreAnError) {
    EventSimulation simulation;

    EXPECT_THROW(simulation.run({{receiving(1), WaitForMessage{0, true}}, {receiving(0), WaitForMessage{0, true}}}),
                 std::logic_error);
}

}  // namespace
}  // namespace aimerge
