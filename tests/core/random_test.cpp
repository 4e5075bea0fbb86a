#include "aimerge/core/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace aimerge {
namespace {

using testing::ElementsAre;

// Known answers that the authors of the paper publish with Random123 (philox 4x32, 10 rounds).
TEST(Philox, GivesTheKnownAnswers) {
    EXPECT_THAT(philox4x32({{0, 0, 0, 0}}, 0).word, ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
    EXPECT_THAT(philox4x32({{~0u, ~0u, ~0u, ~0u}}, ~std::uint64_t{0}).word,
                ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
    EXPECT_THAT(philox4x32({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, 0x299f31d0a4093822u).word,
                ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(RandomStream, WordsAreThoseOfTheBlocks) {
    const RandomStream stream{.seed = 7, .stream = 0x123456789abcdefu};

    for (std::uint64_t index : {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{1} << 40})
        EXPECT_EQ(stream.word(index), stream.block(index / 4).word[index % 4]);
    EXPECT_EQ(stream.block(3).word[0], philox4x32({{3, 0, 0x89abcdefu, 0x01234567u}}, 7).word[0]);
}

TEST(RandomStream, SeedStreamAndIndexEachChangeTheNumber) {
    EXPECT_NE((RandomStream{1, 1}.word(1)), (RandomStream{2, 1}.word(1)));
    EXPECT_NE((RandomStream{1, 1}.word(1)), (RandomStream{1, 2}.word(1)));
    EXPECT_NE((RandomStream{1, 1}.word(1)), (RandomStream{1, 1}.word(2)));
}

// 10^6 draws: the mean of uniforms has standard deviation 2.9e-4; five of them are allowed.
TEST(RandomStream, UniformsLieInTheUnitIntervalAroundOneHalf) {
    const RandomStream stream{42, 0};
    double sum = 0;
    for (std::uint64_t i = 0; i < 1'000'000; ++i) {
        const float draw = stream.uniform(i);
        ASSERT_GE(draw, 0.0f);
        ASSERT_LT(draw, 1.0f);
        sum += draw;
    }
    EXPECT_NEAR(sum / 1e6, 0.5, 5 * 2.9e-4);
}

TEST(SeededPermutation, HoldsEveryNumberOnceAndDependsOnTheSeed) {
    std::vector<std::size_t> identity(1000);
    std::iota(identity.begin(), identity.end(), std::size_t{0});

    std::vector<std::size_t> order = seededPermutation(1000, 42);

    EXPECT_EQ(order, seededPermutation(1000, 42));
    EXPECT_NE(order, seededPermutation(1000, 43));
    EXPECT_NE(order, identity);
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, identity);
}

TEST(SeededPermutation, OfNothingAndOfOneIsTrivial) {
    EXPECT_TRUE(seededPermutation(0, 1).empty());
    EXPECT_THAT(seededPermutation(1, 1), ElementsAre(0u));
}

// 6000 seeds over 6 orders: each is expected 1000 times with standard deviation 29.
TEST(SeededPermutation, AllOrdersAreEquallyLikely) {
    std::map<std::vector<std::size_t>, int> times;
    for (std::uint64_t seed = 0; seed < 6000; ++seed) ++times[seededPermutation(3, seed)];

    EXPECT_EQ(times.size(), 6u);
    for (const auto& [order, count] : times) EXPECT_NEAR(count, 1000, 5 * 29);
}

// Pins the order: a corpus must be shuffled the same way by every version that claims the same results.
TEST(SeededPermutation, OrderOfEightIsPinned) {
    EXPECT_THAT(seededPermutation(8, 42), ElementsAre(4, 5, 2, 0, 1, 6, 7, 3));
}

}  // namespace
}  // namespace aimerge
