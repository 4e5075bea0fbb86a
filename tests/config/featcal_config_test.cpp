#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

TEST(FeatcalConfig, IsAbsentUnlessItIsWritten) {
    EXPECT_FALSE(parsed(kThreeLines).featcal.has_value());
}

TEST(FeatcalConfig, HasItsDefaultsWhereNothingIsUnderIt) {
    for (const char* section : {"featcal:\n", "featcal: {}\n"}) {
        const FeatcalConfig featcal = *parsed(kThreeLines + section).featcal;
        EXPECT_EQ(featcal.lambda, 0.01);
        EXPECT_EQ(featcal.rho, 1);
        EXPECT_EQ(featcal.alpha, 1);
        EXPECT_THAT(featcal.experts, testing::IsEmpty());
        EXPECT_FALSE(featcal.base.has_value());
        EXPECT_THAT(featcal.modules, testing::IsEmpty());
    }
}

TEST(FeatcalConfig, TakesWhatIsWritten) {
    const FeatcalConfig featcal = *parsed(kThreeLines + R"(
featcal:
  lambda: 0.5
  rho: 2
  alpha: 0.25
  modules: [mlp, o_proj]
  experts:
    - {model: a, weight: 0.5}
    - {model: c, calibration: {corpus: c.jsonl, text_key: [prompt, target]}}
  base: {model: d, weight: 3, calibration: {corpus: d.txt}}
)")
                                       .featcal;
    EXPECT_EQ(featcal.lambda, 0.5);
    EXPECT_EQ(featcal.rho, 2);
    EXPECT_EQ(featcal.alpha, 0.25);
    EXPECT_THAT(featcal.modules, testing::ElementsAre("mlp", "o_proj"));
    ASSERT_EQ(featcal.experts.size(), 2U);
    EXPECT_EQ(featcal.experts[0].model, "a");
    EXPECT_EQ(featcal.experts[0].weight, 0.5);
    EXPECT_FALSE(featcal.experts[0].calibration.has_value());
    EXPECT_EQ(featcal.experts[1].weight, 1);
    EXPECT_THAT(featcal.experts[1].calibration->textKeys, testing::ElementsAre("prompt", "target"));
    EXPECT_EQ(featcal.base->model, "d");
    EXPECT_EQ(featcal.base->weight, 3);
    EXPECT_EQ(featcal.base->calibration->inputName(), "d.txt");
}

TEST(FeatcalConfig, MayNameAnEarlierDocument) {
    const MergeConfig config = parsed("name: first\n" + kThreeLines +
                                      "---\nmerge_method: passthrough\nmodels: [{model: a}]\n"
                                      "featcal: {experts: [{model: first}], base: {model: first}}\n");
    EXPECT_THAT(config.uses, testing::ElementsAre("first"));
    const FeatcalConfig featcal = *withDocumentsIn("/made", config).featcal;
    EXPECT_EQ(featcal.experts[0].model, "/made/first");
    EXPECT_EQ(featcal.base->model, "/made/first");
}

}  // namespace
}  // namespace aimerge
