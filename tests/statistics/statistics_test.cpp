#include "aimerge/statistics/statistics.h"

#include "aimerge/core/error.h"
#include "support/expect_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(Importance, DividesByTheLargestValue) {
    EXPECT_EQ(importance({1, 4, 2}), (std::vector<float>{0.25f, 1, 0.5f}));
}

TEST(Importance, TakesTheMagnitudeOfNegativeValues) {
    EXPECT_EQ(importance({-4, 2}), (std::vector<float>{1, 0.5f}));
}

TEST(Importance, IsZeroForAModuleThatIsNeverActive) {
    EXPECT_EQ(importance({0, 0}), (std::vector<float>{0, 0}));
}

TEST(Importance, OfNoChannelsIsEmpty) {
    EXPECT_TRUE(importance({}).empty());
}

TEST(CombineStatistics, ChannelByChannelOverTheExperts) {
    const std::vector<StatisticsByModule> experts{{{"m", {{1, 4}, {2, 6}, {3, 9}, 7}}},
                                                  {{"m", {{3, 2}, {2, 4}, {9, 1}, 7}}}};

    const StatisticsByModule mean = combineStatistics(experts, ActivationSource::ExpertsMean);
    EXPECT_EQ(mean, (StatisticsByModule{{"m", {{2, 3}, {2, 5}, {6, 5}, 7}}}));
    const StatisticsByModule largest = combineStatistics(experts, ActivationSource::ExpertsMax);
    EXPECT_EQ(largest, (StatisticsByModule{{"m", {{3, 4}, {2, 6}, {9, 9}, 7}}}));
}

TEST(CombineStatistics, ThoseOfEachExpertCanBeSeparatedAgain) {
    const std::vector<StatisticsByModule> experts{{{"m", {{1, 4}, {2, 6}, {3, 9}, 7}}, {"a@b", {{5}, {5}, {5}, 7}}},
                                                  {{"m", {{3, 2}, {2, 4}, {9, 1}, 7}}, {"a@b", {{6}, {6}, {6}, 7}}}};

    const StatisticsByModule all = combineStatistics(experts, ActivationSource::Experts);

    EXPECT_EQ(all.size(), 4);
    EXPECT_EQ(all.at("m@2"), experts[1].at("m"));
    EXPECT_EQ(separateStatistics(all), experts);
    for (const char* name : {"m", "m@", "m@0", "m@9", "m@x", "m@1x", "m@-1"})
        EXPECT_THAT(messageOf<InputError>([&] { separateStatistics({{name, {}}}); }), testing::HasSubstr("MODULE@NUMBER"));
}

TEST(ModuleStatistics, GivesTheVectorOfTheNamedStatistic) {
    const ModuleStatistics statistics{{1}, {2}, {3}, 7};

    EXPECT_EQ(statistics.values(Statistic::MeanAbs), std::vector<float>{1});
    EXPECT_EQ(statistics.values(Statistic::Rms), std::vector<float>{2});
    EXPECT_EQ(statistics.values(Statistic::MaxAbs), std::vector<float>{3});
    EXPECT_EQ(statistics.values(Statistic::Wanda), std::vector<float>{2}) << "the input's part of |w| rms";
}

}  // namespace
}  // namespace aimerge
