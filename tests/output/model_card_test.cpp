#include "aimerge/output/model_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(ModelCard, HasFrontMatterOfHubNamesOnlyAndTheConfig) {
    const ModelCard card{"my-merge",
                         CardModel{"org/base", true},
                         {{"org/math", true}, {"/data/code", false}, {"org/base", true}},
                         "ties",
                         "TIES-Merging",
                         "arXiv:2306.01708",
                         {0.4},
                         "mean_abs",
                         "bfloat16",
                         "note: ```\n"};

    const std::string text = modelCardText(card);

    EXPECT_THAT(text, StartsWith("---\nbase_model:\n- org/base\n- org/math\nlibrary_name: transformers\n"
                                 "tags:\n- mergekit\n- merge\n- aimerge\n\n---\n# my-merge\n"));
    EXPECT_THAT(text, HasSubstr("* `/data/code`\n"));
    EXPECT_THAT(text, HasSubstr("theta_base + (1 - A (1 - omega))"));
    EXPECT_THAT(text, HasSubstr("omega = 0.4, statistic mean_abs"));
    EXPECT_THAT(text, HasSubstr("\n````yaml\nnote: ```\n````\n"));
    EXPECT_THAT(text, HasSubstr("torch.bfloat16"));
}

TEST(ModelCard, SaysBetweenWhichValuesTheOmegasOfTheTensorsLie) {
    const ModelCard card{"m", CardModel{"base", false}, {}, "linear", "Linear", "", {0.2, 0.5, 1}, "mean_abs", "bfloat16",
                         ""};
    EXPECT_THAT(modelCardText(card), HasSubstr("omega = 0.2 to 1, by tensor, statistic mean_abs"));
}

TEST(ModelCard, NamesTheModelsThatItWasFittedTo) {
    ModelCard card{"m", CardModel{"base", false}, {}, "linear", "Linear", "", {}, "", "bfloat16", ""};
    EXPECT_THAT(modelCardText(card), Not(HasSubstr("Feature calibration")));
    card.fittedTo = {{"org/math", true}, {"/data/code", false}};
    EXPECT_THAT(modelCardText(card),
                HasSubstr("arXiv 2605.13030):\n\n* [org/math](https://huggingface.co/org/math)\n* `/data/code`\n"));
}

TEST(ModelCard, SaysWhoseActivationsHoldWhatBack) {
    ModelCard card{"m", CardModel{"base", false}, {}, "linear", "Linear", "", {0.4}, "rms", "bfloat16", ""};
    EXPECT_THAT(modelCardText(card), HasSubstr("holds back the change on the input channels that the base model uses most"));
    card.source = ActivationSource::ExpertsMax;
    EXPECT_THAT(modelCardText(card), HasSubstr("holds back the change on the input channels that the experts use most"));
    card.source = ActivationSource::Experts;
    EXPECT_THAT(modelCardText(card),
                HasSubstr("each expert's change, before the merge, on the input channels that it uses"));
    EXPECT_THAT(modelCardText(card), HasSubstr("(theta_expert - theta_base)"));
}

TEST(ModelCard, SaysNothingOfActivationsWithoutAim) {
    const ModelCard card{"m", std::nullopt, {{"/data/code", false}}, "linear", "Mean", "", {}, "", "float16", "a: 1"};

    const std::string text = modelCardText(card);

    EXPECT_THAT(text, StartsWith("---\nbase_model: []\n"));
    EXPECT_THAT(text, Not(HasSubstr("Activation")));
    EXPECT_THAT(text, HasSubstr("```yaml\na: 1\n```\n"));
}

}  // namespace
}  // namespace aimerge
