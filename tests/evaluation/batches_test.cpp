#include "evaluation/batches.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;

TEST(Batches, GroupSequencesOfSimilarLengthUpToTheBudget) {
    const std::vector<TokenSequence> sequences{{{1, 2, 3, 4}, {{3, 9}}}, {{5}, {{0, 8}}}, {{6, 7}, {{0, 7}, {1, 6}}}};
    const std::vector<TokenBatch> batches = batchesOf(sequences, 4);

    ASSERT_EQ(batches.size(), 2u);
    EXPECT_EQ(batches[0].length, 2);
    EXPECT_THAT(batches[0].sequences, ElementsAre(1, 2));
    EXPECT_THAT(batches[0].ids, ElementsAre(5, 0, 6, 7));
    EXPECT_THAT(batches[0].rows, ElementsAre(0, 2, 3));
    EXPECT_THAT(batches[0].tokens, ElementsAre(8, 7, 6));
    EXPECT_EQ(batches[1].length, 4);
    EXPECT_THAT(batches[1].rows, ElementsAre(3));
}

TEST(Batches, ASequenceBeyondTheBudgetStandsAlone) {
    EXPECT_EQ(batchesOf({{{1, 2, 3}, {}}, {{1, 2, 4}, {}}}, 1).size(), 2u);
    EXPECT_TRUE(batchesOf({}, 16).empty());
}

TEST(Batches, ScoresComeBackInTheOrderOfTheSequences) {
    const std::vector<TokenSequence> sequences{{{1, 2, 3, 4}, {{3, 9}}}, {{5}, {{0, 8}}}, {{6, 7}, {{0, 7}, {1, 6}}}};
    const std::vector<TokenScore> ordered =
        inSequenceOrder(sequences, batchesOf(sequences, 4), {{-8, true}, {-7, true}, {-6, true}, {-9, true}});

    ASSERT_EQ(ordered.size(), 4u);
    EXPECT_EQ(ordered[0].logProbability, -9);
    EXPECT_EQ(ordered[1].logProbability, -8);
    EXPECT_EQ(ordered[2].logProbability, -7);
    EXPECT_EQ(ordered[3].logProbability, -6);
}

}  // namespace
}  // namespace aimerge
