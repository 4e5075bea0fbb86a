#include "aimerge/core/error.h"
#include "aimerge/report/analysis.h"

#include <gmock/gmock.h>

#include <cmath>

using namespace aimerge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

namespace {

constexpr const char* kHeader = "model,kind,method,combination,omega,aim,x,y\n";
constexpr const char* kModels =
    "b,base,,,,,10,20\n"
    "code,expert,-,-,-,-,50,20\n"
    "m,expert,,math,,,10,60\n";

ScoreTable parse(const std::string& text, ScoreScale scale = ScoreScale::Hundred) {
    return parseScores(text, "s.csv", scale).table;
}

TEST(Scores, RowsAreReadWithTheirMeaning) {
    const ScoreTable table = parse(std::string(kHeader) + kModels + "t,merged,ties,code + math,0.4,yes,40,50.5\n");

    const ScoreRow& row = table.rows[3];
    EXPECT_EQ(row.method, "ties");
    EXPECT_THAT(row.experts, ElementsAre("code", "math"));
    EXPECT_EQ(row.omega, 0.4);
    EXPECT_TRUE(row.aim);
    EXPECT_EQ(row.scores[1], 50.5);
    EXPECT_EQ(table.expertRow("code"), 1u);
    EXPECT_EQ(table.expertRow("math"), 2u);
    EXPECT_EQ(table.expertRow("instruct"), std::nullopt);
}

TEST(Scores, ScaleIsGuessedFromValuesAboveOne) {
    const auto guessed = [](const std::string& values) {
        return parseScores(std::string(kHeader) + "b,base,,,,," + values + "\n", "s.csv", ScoreScale::Guess);
    };

    EXPECT_EQ(guessed("0.5,1").scale, ScoreScale::One);
    EXPECT_EQ(guessed("0.5,1").table.rows[0].scores[0], 50.0);
    EXPECT_EQ(guessed("0.5,1.5").scale, ScoreScale::Hundred);
    EXPECT_EQ(guessed("0.5,1.5").table.rows[0].scores[0], 0.5);
}

TEST(Scores, PerplexitiesAreNotScaledAndDoNotDecideTheScale) {
    const auto scores = parseScores("model,kind,method,combination,omega,aim,x,general:ppl\nb,base,,,,,0.5,24.8\n", "s.csv",
                                    ScoreScale::Guess);

    EXPECT_EQ(scores.scale, ScoreScale::One);
    EXPECT_TRUE(scores.table.benchmarks[1].lowerIsBetter);
    EXPECT_EQ(scores.table.rows[0].scores[1], 24.8);
}

TEST(Scores, PerplexitiesAreKnownByTheirNames) {
    EXPECT_TRUE(isPerplexity("ppl"));
    EXPECT_TRUE(isPerplexity("general:ppl"));
    EXPECT_TRUE(isPerplexity("wikitext_word_perplexity"));
    EXPECT_FALSE(isPerplexity("apples"));
    EXPECT_FALSE(isPerplexity("suppl"));
}

struct BadFile {
    std::string text, message;
};

class BadScores : public testing::TestWithParam<BadFile> {};

TEST_P(BadScores, AreRefusedWithFileLineAndColumn) {
    const std::string text = GetParam().text;
    EXPECT_THAT([&] { parse(text); }, ThrowsMessage<InputError>(HasSubstr(GetParam().message))) << text;
}

const std::string kStart = std::string(kHeader) + kModels;
INSTANTIATE_TEST_SUITE_P(
    All, BadScores,
    testing::Values(
        BadFile{"", "s.csv: the file is empty"}, BadFile{"model,kind,x\n", "s.csv: line 1: column `combination` is missing"},
        BadFile{"model,kind,combination,x,x\n", "s.csv: line 1: column `x` is there twice"},
        BadFile{"model,kind,combination,,x\n", "s.csv: line 1: column 4 has no name"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,40\n",
                "s.csv: line 5: expected 8 fields, as the first line has, found 7"},
        BadFile{kStart + ",merged,ties,code+math,0.4,yes,40,1\n", "line 5: column `model`: expected a name"},
        BadFile{kStart + "t,merge,ties,code+math,0.4,yes,40,1\n",
                "line 5: column `kind`: expected base, expert or merged, found 'merge'"},
        BadFile{kStart + "t,merged,,code+math,0.4,yes,40,1\n", "line 5: column `method`"},
        BadFile{kStart + "t,merged,ties,,0.4,yes,40,1\n", "line 5: column `combination`: expected the experts"},
        BadFile{kStart + "t,merged,ties,code++math,0.4,yes,40,1\n", "line 5: column `combination`: expected names"},
        BadFile{kStart + "t,merged,ties,code+math,4,yes,40,1\n",
                "line 5: column `omega`: expected a number in [0, 1], found '4'"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,maybe,40,1\n",
                "line 5: column `aim`: expected yes or no, found 'maybe'"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,no,40,1\n", "line 5: column `aim`: expected yes with omega 0.4"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,40,a\n", "line 5: column `y`: expected a number, found 'a'"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,40,nan\n", "line 5: column `y`: expected a number, found 'nan'"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,40,1e999\n", "line 5: column `y`: expected a number"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,101,1\n",
                "line 5: column `x`: expected a score from 0 to 100, found 101"},
        BadFile{kStart + "t,merged,ties,code+math,0.4,yes,-1,1\n",
                "line 5: column `x`: expected a score from 0 to 100, found -1"},
        BadFile{kStart + "m,merged,ties,code+math,0.4,yes,40,1\n", "line 5: column `model`: 'm' is also on line 4"},
        BadFile{kStart + "b2,base,,,,,40,1\n", "line 5: column `kind`: there is a base already, on line 2"},
        BadFile{kStart + "m2,expert,,math,,,40,1\n", "line 5: column `combination`: an expert has one name"}));

TEST(Scores, AboveOneIsRefusedWithScaleOne) {
    EXPECT_THAT([] { parse(kStart, ScoreScale::One); },
                ThrowsMessage<InputError>(HasSubstr("s.csv: line 2: column `x`: expected a score from 0 to 1, found 10")));
}

TEST(Analysis, GainCountsTheStatedPopulation) {
    const ScoreTable table = parse(kStart + "t,merged,ties,math+code,1,no,40,50\n");

    const Analysis analysis = analyse(table, Population::Stated);

    // Of [0, 0.4] x [0, 0.5] the experts cover 0.4 x 0.2 and 0.1 x 0.5, of which 0.1 x 0.2 twice.
    EXPECT_NEAR(analysis.rows[3].gain.value(), std::sqrt(0.2 - 0.08 - 0.05 + 0.02), 1e-15);
}

TEST(Analysis, ChangesAreAgainstTheSameMergeWithoutAim) {
    const ScoreTable table = parse(kStart +
                                   "a,merged,ties,code+math,0.4,yes,44,0\n"
                                   "p,merged,ties,math+code,1,no,40,0\n"
                                   "q,merged,linear,math+code,,no,20,50\n");

    const Analysis analysis = analyse(table, Population::Stated);

    EXPECT_EQ(analysis.rows[3].plain, 4u);
    EXPECT_NEAR(analysis.rows[3].change[0].value(), 10, 1e-12);
    EXPECT_EQ(analysis.rows[3].change[1], 0.0);
    EXPECT_EQ(analysis.rows[4].plain, std::nullopt);
    EXPECT_EQ(analysis.rows[5].change[0], std::nullopt);
}

TEST(Analysis, AChangeFromZeroIsInfinite) {
    const ScoreTable table = parse(kStart +
                                   "a,merged,ties,code+math,0.4,yes,44,40\n"
                                   "p,merged,ties,math+code,1,no,0,40\n");

    const Analysis analysis = analyse(table, Population::Stated);

    EXPECT_TRUE(std::isinf(analysis.rows[3].change[0].value()));
    EXPECT_TRUE(std::isinf(analysis.rows[3].gainChange.value()));
}

TEST(Analysis, RowsWithoutAllScoresHaveNoGainAndANotice) {
    const ScoreTable table = parse(kStart + "a,merged,ties,code+math,0.4,yes,44,\n");

    const Analysis analysis = analyse(table, Population::Stated);

    EXPECT_EQ(analysis.rows[3].gain, std::nullopt);
    EXPECT_THAT(analysis.notices, ElementsAre(HasSubstr("1 models lack some scores")));
}

TEST(Analysis, AnUnscoredExpertTakesTheGainsThatNeedIt) {
    const ScoreTable table = parse(
        "model,kind,method,combination,omega,aim,status,x\n"
        "code,expert,,,,,done,50\nmath,expert,,,,,failed,\nchat,expert,,,,,done,20\n"
        "a,merged,ties,code+math,1,no,done,44\nc,merged,ties,code+chat,1,no,done,60\n");

    const Analysis analysis = analyse(table, Population::Stated);

    EXPECT_EQ(analysis.rows[3].gain, std::nullopt);
    EXPECT_NEAR(analysis.rows[4].gain.value(), 0.1, 1e-15);
    EXPECT_THAT(analysis.notices, ElementsAre(HasSubstr("because math has no complete scores")));
}

TEST(Analysis, PerplexityIsNoPartOfTheGain) {
    const ScoreTable table = parse(
        "model,kind,method,combination,omega,aim,x,ppl\n"
        "code,expert,,,,,50,9\nmath,expert,,,,,40,9\na,merged,ties,code+math,1,no,75,9\n");

    EXPECT_EQ(analyse(table, Population::Stated).rows[2].gain, 0.25);
}

TEST(Analysis, FrontsAreOverAllModelsAndOverThoseOfTheSameExperts) {
    const ScoreTable table = parse(
        "model,kind,method,combination,omega,aim,x,y\n"
        "code,expert,,,,,50,20\nmath,expert,,,,,10,60\nchat,expert,,,,,90,90\n"
        "a,merged,ties,code+math,1,no,40,50\nb,merged,linear,code+math,1,no,40,40\n");

    const Analysis analysis = analyse(table, Population::Stated);

    EXPECT_TRUE(analysis.rows[2].onFront);
    EXPECT_FALSE(analysis.rows[3].onFront);
    EXPECT_TRUE(analysis.rows[3].onOwnFront);
    EXPECT_FALSE(analysis.rows[4].onOwnFront);
}

TEST(Analysis, UnknownExpertsAndDoubledMergesAreErrors) {
    EXPECT_THAT(
        [] { analyse(parse(kStart + "a,merged,ties,code+maths,1,no,4,5\n"), Population::Stated); },
        ThrowsMessage<InputError>(HasSubstr("line 5: column `combination`: no row of kind `expert` is named 'maths'")));
    EXPECT_THAT(
        [] {
            analyse(parse(kStart + "a,merged,ties,code+math,1,no,4,5\nc,merged,ties,math+code,1,no,4,5\n"),
                    Population::Stated);
        },
        ThrowsMessage<InputError>(HasSubstr("lines 5 and 6 are both ties of code + math without AIM")));
}

TEST(Population, AllIsTheBaseAndEveryExpert) {
    const ScoreTable table = parse(kStart + "t,merged,ties,code,1,no,40,50\n");

    EXPECT_THAT(populationOf(table, table.rows[3], Population::All), ElementsAre(0, 1, 2));
    EXPECT_THAT(populationOf(table, table.rows[3], Population::Stated), ElementsAre(1));
}

TEST(Population, NamesAreKnown) {
    EXPECT_EQ(parsePopulation("as-printed"), Population::AsPrinted);
    EXPECT_THAT([] { parsePopulation("printed"); },
                ThrowsMessage<UsageError>(HasSubstr("expected stated, as-printed or all")));
}

}  // namespace
