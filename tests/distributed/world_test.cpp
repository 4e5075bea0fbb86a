#include "support/mpi_world.h"

#include "aimerge/core/error.h"
#include "aimerge/core/process_limits.h"
#include "aimerge/distributed/interruption.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

namespace aimerge {
namespace {

using Bytes = std::vector<std::byte>;

/// Bytes of which no two chunks are alike, so that a chunk in the wrong place is seen.
Bytes pattern(std::size_t bytes, unsigned seed) {
    Bytes pattern(bytes);
    std::uint32_t state = seed * 2654435761u + 1;
    for (std::byte& byte : pattern) {
        state = state * 1664525u + 1013904223u;
        byte = static_cast<std::byte>(state >> 24);
    }
    return pattern;
}

std::string textOf(std::size_t bytes, unsigned seed) {
    const Bytes from = pattern(bytes, seed);
    return {reinterpret_cast<const char*>(from.data()), from.size()};
}

// One chunk, its borders, and several.
constexpr std::size_t kSizes[] = {
    0, 1, 70'001, World::kChunkBytes - 1, World::kChunkBytes, World::kChunkBytes + 1, 2 * World::kChunkBytes + 12'345};

TEST(World, KnowsItsRanks) {
    World& world = testWorld();

    EXPECT_GE(world.rank(), 0);
    EXPECT_LT(world.rank(), world.size());
    EXPECT_EQ(world.ranksOnNode(), world.size());  // the tests run on one machine
    if (!ControlGroups().processors()) {           // the tests bind no rank, so all may run everywhere
        EXPECT_EQ(world.processorsOfRank(), std::max(1, static_cast<int>(usableProcessors().size()) / world.size()));
    }
    EXPECT_EQ(world.isRoot(), world.rank() == 0);
}

TEST(World, BroadcastsTextsOfAnySize) {
    World& world = testWorld();
    for (const std::size_t bytes : kSizes) {
        const std::string expected = textOf(bytes, 3);

        const std::string received = world.broadcast(world.isRoot() ? expected : "of another rank");

        EXPECT_TRUE(received == expected) << bytes << " bytes";
    }
}

TEST(World, BroadcastsFiftyMegabytes) {
    World& world = testWorld();
    const std::string expected = textOf(50'000'000, 4);

    const std::string received = world.broadcast(world.isRoot() ? expected : "");

    EXPECT_TRUE(received == expected);
}

TEST(World, GathersTextsInRankOrderOnTheRoot) {
    World& world = testWorld();
    const auto textOfRank = [](int rank) {
        return textOf(static_cast<std::size_t>(rank) * 9'000'000, static_cast<unsigned>(rank));
    };

    const std::vector<std::string> texts = world.gather(textOfRank(world.rank()));

    ASSERT_EQ(texts.size(), world.isRoot() ? static_cast<std::size_t>(world.size()) : 0u);
    for (std::size_t rank = 0; rank < texts.size(); ++rank) {
        EXPECT_TRUE(texts[rank] == textOfRank(static_cast<int>(rank))) << "of rank " << rank;
    }
}

TEST(World, FindsTheLargestValueOfAnyRank) {
    World& world = testWorld();
    const std::int64_t large = std::int64_t{1} << 40;

    EXPECT_EQ(world.maximum(world.rank() == world.size() - 1 ? large : -large), large);
    EXPECT_EQ(world.maximum(-world.rank() - 5), -5);
    EXPECT_TRUE(world.any(world.rank() == world.size() - 1));
    EXPECT_FALSE(world.any(false));
}

TEST(World, BarrierWaitsForTheLast) {
    World& world = testWorld();
    for (int i = 0; i < 100; ++i) world.barrier();
}

TEST(World, PassesMessagesOfAnySizeAroundTheRing) {
    World& world = testWorld();
    if (world.size() == 1) return;  // nobody to talk to
    const int next = (world.rank() + 1) % world.size(), previous = (world.rank() + world.size() - 1) % world.size();
    for (const std::size_t bytes : kSizes) {
        const Bytes sent = pattern(bytes, static_cast<unsigned>(world.rank()));
        Bytes received(bytes);

        World::Request receive = world.receive(previous, 5, received);
        World::Request send = world.send(next, 5, sent);
        receive.wait();
        send.wait();

        EXPECT_TRUE(received == pattern(bytes, static_cast<unsigned>(previous))) << bytes << " bytes";
        EXPECT_FALSE(receive.active());
    }
}

TEST(World, KeepsTheOrderOfMessagesAndTheirTagsApart) {
    World& world = testWorld();
    if (world.size() == 1) return;
    if (world.rank() == 1) {
        const Bytes first = pattern(100, 1), second = pattern(100, 2), other = pattern(100, 3);
        World::Request a = world.send(0, 1, first), b = world.send(0, 1, second), c = world.send(0, 2, other);
        while (!a.test()) {
        }
        b.wait();
        c.wait();
    } else if (world.rank() == 0) {
        Bytes first(100), second(100), other(100);
        World::Request c = world.receive(1, 2, other);
        c.wait();
        World::Request a = world.receive(1, 1, first);
        World::Request b = world.receive(1, 1, second);
        b.wait();
        a.wait();
        EXPECT_EQ(first, pattern(100, 1));
        EXPECT_EQ(second, pattern(100, 2));
        EXPECT_EQ(other, pattern(100, 3));
    }
}

TEST(World, NamesAMessageOfAnotherSize) {
    World& world = testWorld();
    if (world.size() == 1) return;
    struct Case {
        std::size_t sent, expected;
        const char* message;
    };
    for (const auto& [sent, expected, message] :
         {Case{10, 20, "MPI_Irecv of 20 bytes from rank 1: the message has 10 bytes"},
          Case{20, 10, "MPI_Irecv of 10 bytes from rank 1 failed"}}) {
        if (world.rank() == 1) {
            const Bytes bytes(sent);
            world.send(0, 6, bytes).wait();
        } else if (world.rank() == 0) {
            Bytes bytes(expected);
            World::Request request = world.receive(1, 6, bytes);
            try {
                request.wait();
                ADD_FAILURE() << "accepted " << sent << " bytes for " << expected;
            } catch (const RuntimeFault& fault) {
                EXPECT_THAT(fault.what(), testing::HasSubstr(message));
            }
        }
    }
}

TEST(World, CancelsAReceiveThatGoesWithoutWait) {
    World& world = testWorld();
    if (world.size() == 1) return;
    Bytes never(1000), real(1000);
    if (world.rank() == 0) {
        { World::Request unwanted = world.receive(1, 7, never); }
        {
            World::Request replaced = world.receive(1, 7, never);
            replaced = World::Request();
        }
        World::Request request = world.receive(1, 7, real);
        world.barrier();
        request.wait();
        EXPECT_EQ(real, pattern(1000, 9));
        EXPECT_EQ(never, Bytes(1000));
    } else {
        world.barrier();
        const Bytes sent = pattern(1000, 9);
        if (world.rank() == 1) world.send(0, 7, sent).wait();
    }
}

TEST(World, RefusesMessagesToRanksThatAreNotThere) {
    World& world = testWorld();
    Bytes bytes(1);

    EXPECT_THROW(world.send(world.size(), 0, bytes), RuntimeFault);
    EXPECT_THROW(world.receive(world.rank(), 0, bytes), RuntimeFault);
}

TEST(Interruption, OfOneRankStopsAllAtTheNextSafePoint) {
    World& world = testWorld();
    installInterruptionHandlers();
    EXPECT_NO_THROW(throwIfAnyInterrupted(world));

    const bool last = world.rank() == world.size() - 1;
    if (last) raise(SIGUSR1);

    EXPECT_EQ(interruptionRequested(), last);
    EXPECT_THROW(throwIfAnyInterrupted(world), Interrupted);
    if (last) {
        EXPECT_THROW(throwIfInterrupted(), Interrupted);
    }
}

}  // namespace
}  // namespace aimerge
