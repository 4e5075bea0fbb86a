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

TEST(CombineStatistics, FusedExpertsValueByValueWithTheMostTokens) {
    ModuleStatistics one{{1, 4, 0, 0}, {1, 4, 0, 0}, {1, 4, 0, 0}, 7, 2, {7, 0}, -2};
    ModuleStatistics other{{3, 2, 6, 8}, {3, 2, 6, 8}, {3, 2, 6, 8}, 9, 2, {5, 4}, -2};

    const StatisticsByModule mean = combineStatistics({{{"m", one}}, {{"m", other}}}, ActivationSource::ExpertsMean);
    EXPECT_EQ(mean.at("m"), (ModuleStatistics{{2, 3, 3, 4}, {2, 3, 3, 4}, {2, 3, 3, 4}, 11, 2, {7, 4}, -2}));
    const StatisticsByModule largest = combineStatistics({{{"m", one}}, {{"m", other}}}, ActivationSource::ExpertsMax);
    EXPECT_EQ(largest.at("m"), (ModuleStatistics{{3, 4, 6, 8}, {3, 4, 6, 8}, {3, 4, 6, 8}, 11, 2, {7, 4}, -2}));
    const StatisticsByModule all = combineStatistics({{{"m", one}}, {{"m", other}}}, ActivationSource::Experts);
    EXPECT_EQ(all.at("m@2"), other);
}

TEST(CombineStatistics, OfModelsThatDifferIsAnErrorInWords) {
    const ModuleStatistics plain{{1, 2}, {1, 2}, {1, 2}, 7};
    const ModuleStatistics wider{{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, 7};
    const ModuleStatistics fused{{1, 2}, {1, 2}, {1, 2}, 7, 2, {3, 4}};
    const auto message = [](const StatisticsByModule& one, const StatisticsByModule& two) {
        return messageOf<InputError>([&] { combineStatistics({one, two}, ActivationSource::ExpertsMean); });
    };

    EXPECT_THAT(message({{"m", plain}}, {{"m", wider}}),
                testing::HasSubstr("expert 1 have shape [2], those of expert 2 [3]"));
    EXPECT_THAT(message({{"m", plain}}, {{"m", fused}}), testing::HasSubstr("[2], those of expert 2 [2, 1]"));
    EXPECT_THAT(message({{"m", plain}, {"n", plain}}, {{"m", plain}}), testing::HasSubstr("expert 1 have module 'n'"));
    EXPECT_THAT(message({{"m", plain}}, {{"m", plain}, {"n", plain}}), testing::HasSubstr("expert 2 have module 'n'"));
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

TEST(ModuleStatistics, KnowsItsRows) {
    const ModuleStatistics plain{{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, 7}, fused{{1, 2}, {1, 2}, {1, 2}, 7, 2, {3, 4}};

    EXPECT_FALSE(plain.isFused());
    EXPECT_EQ(plain.channels(), 3u);
    EXPECT_TRUE(fused.isFused());
    EXPECT_EQ(fused.channels(), 1u);
    EXPECT_EQ(plain.inconsistency(), std::nullopt);
    EXPECT_EQ(fused.inconsistency(), std::nullopt);
}

TEST(ModuleStatistics, SaysWhatContradictsItself) {
    const std::vector<std::pair<ModuleStatistics, const char*>> cases{
        {{{1, 2}, {1}, {1, 2}, 7}, "mean_abs has 2 values, rms 1, max_abs 2"},
        {{{1, 2}, {1, 2}, {1, 2}, 7, 2, {7}}, "tokens of 1 experts, but statistics of 2"},
        {{{1, 2}, {1, 2}, {1, 2}, 7, 0, {7}}, "tokens of 1 experts, but statistics of 0"},
        {{{1, 2, 3}, {1, 2, 3}, {1, 2, 3}, 7, 2, {3, 4}}, "3 values are no rows of 2 experts"},
        {{{1}, {1}, {1}, 7, 0, {}, 0}, "input_axis is 0"},
    };
    for (const auto& [statistics, text] : cases)
        EXPECT_THAT(statistics.inconsistency().value_or(""), testing::HasSubstr(text));
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
