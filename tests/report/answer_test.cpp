#include "aimerge/report/answer.h"

#include <gmock/gmock.h>

#include <cmath>

using namespace aimerge;
using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

namespace {

ScoreTable twoExpertsAnd(const std::string& rows) {
    return parseScores("model,kind,method,combination,omega,aim,x\na,expert,,,,,25\nb,expert,,,,,25\n" + rows, "s.csv",
                       ScoreScale::Hundred)
        .table;
}

/// Two experts that are right on one item each. Of one benchmark the HV gain is the score less the better expert's.
ScoreTable fourItems() {
    ScoreTable table =
        twoExpertsAnd("p,merged,ties,a+b,1,no,50\nq,merged,ties,a+b,0.4,yes,100\nr,merged,ties,a+b,0.7,yes,75\n");
    const std::vector<std::string> outcomes{"1000", "0100", "1100", "1111", "1110"};
    for (std::size_t i = 0; i < outcomes.size(); ++i) table.rows[i].items[0] = {4, outcomes[i]};
    return table;
}

Analysis analysed(const ScoreTable& table) {
    return analyse(table, Population::Stated);
}

TEST(GainErrors, OfOneBenchmarkAreThoseOfThePairedDifference) {
    const ScoreTable table = fourItems();
    const Analysis analysis = analysed(table);
    GainErrors errors(table, analysis);

    const double error = errors.of({{3, 1.0}, {2, -1.0}}).value();

    // q - p is 0, 0, 1, 1: sqrt(1/2 * 1/2 / 4) = 0.25, from 1000 draws within 4 of its standard errors, 0.25 / sqrt(2000).
    EXPECT_THAT(error, DoubleNear(0.25, 4 * 0.25 / std::sqrt(2000)));
    EXPECT_THAT(errors.of({{3, 0.5}, {2, -0.5}}).value(), DoubleNear(error / 2, 1e-12));
    EXPECT_EQ(GainErrors(table, analysis).of({{3, 1.0}, {2, -1.0}}), error);
    EXPECT_EQ(errors.of({{3, 0.0}, {2, 0.0}}), 0.0);
}

TEST(GainErrors, AreUnknownWithoutTheItemsOfEveryModelInIt) {
    for (const std::size_t row : {0u, 2u, 3u}) {
        ScoreTable table = fourItems();
        table.rows[row].items[0].outcomes = "";
        const Analysis analysis = analysed(table);
        GainErrors errors(table, analysis);
        EXPECT_EQ(errors.of({{3, 1.0}, {2, -1.0}}), std::nullopt) << row;
        EXPECT_EQ(errors.of({{4, 1.0}}).has_value(), row != 0) << row;
    }
    ScoreTable other = fourItems();
    other.rows[3].items[0].outcomes = "11111";
    const Analysis analysis = analysed(other);
    EXPECT_EQ(GainErrors(other, analysis).of({{3, 1.0}}), std::nullopt);
}

TEST(Answer, NamesTheBestTheChangeAndWhatItRestsOn) {
    const ScoreTable table = fourItems();
    const Analysis analysis = analysed(table);

    const Answer answer = answerOf(table, analysis);

    EXPECT_THAT(answer.best, ElementsAre(3));
    EXPECT_EQ(answer.next, 4u);
    EXPECT_EQ(answer.aim.pairs, 2u);
    EXPECT_EQ(answer.aim.higher, 2u);
    EXPECT_THAT(answer.aim.without, DoubleNear(0.25, 1e-15));
    EXPECT_THAT(answer.aim.with, DoubleNear(0.625, 1e-15));
    // The means of q - p and r - p are 0, 0, 1, 1/2 by item: s^2 = 5/16 - (3/8)^2 = 11/64, over 4 items.
    EXPECT_THAT(answer.aim.error.value(), DoubleNear(std::sqrt(11.0 / 256), 4 * 0.21 / std::sqrt(2000)));
    const auto text = answerText(answer, table, analysis);
    EXPECT_EQ(text.at(0), "Best of 3 merges by HV gain: ties of a + b with AIM (\u03C9 0.4), 0.7500 (without AIM 0.2500).");
    EXPECT_THAT(text.at(1),
                HasSubstr("AIM changed HV gain by +0.3750 on average, from 0.2500 to 0.6250 (standard error 0.2"));
    EXPECT_THAT(text.at(1), HasSubstr(", paired over 4 items of x): of 2 pairs of a merge with AIM and the same without, 2 "
                                      "improved, 0 got worse."));
    const auto notes = answerNotes(answer, table, analysis);
    EXPECT_THAT(notes.at(0),
                HasSubstr("Next is ties of a + b with AIM (\u03C9 0.7), 0.5000: 0.2500 less, with a standard error"));
    // Of 0.5 and 0.25 with standard errors near 0.25 and 0.22, by 1000 draws.
    EXPECT_THAT(notes.at(1), HasSubstr(" of 2 changes are larger than two of theirs."));
}

TEST(Answer, SaysWhatIsNotKnown) {
    ScoreTable table = fourItems();
    for (ScoreRow& row : table.rows) row.items[0].outcomes = "";
    Analysis analysis = analysed(table);
    EXPECT_THAT(answerText(answerOf(table, analysis), table, analysis).at(1),
                HasSubstr("(over 4 items of x; its standard error is not known, because the outcomes of the items are not "
                          "recorded): of 2 pairs"));
    EXPECT_EQ(answerJson(answerOf(table, analysis), table, analysis)["items"]["x"], 4);

    for (ScoreRow& row : table.rows) row.items[0].count = 0;
    analysis = analysed(table);
    EXPECT_THAT(
        answerText(answerOf(table, analysis), table, analysis).at(1),
        HasSubstr("(its standard error is not known, because s.csv does not say how many items the scores rest on)"));
    const nlohmann::ordered_json json = answerJson(answerOf(table, analysis), table, analysis);
    EXPECT_TRUE(json["items"]["x"].is_null());
    EXPECT_TRUE(json["aim"]["mean_change_stderr"].is_null());
}

TEST(Answer, OfEqualMergesAllAreBest) {
    const ScoreTable table = twoExpertsAnd("p,merged,ties,a+b,1,no,50\nq,merged,linear,a+b,1,no,50\n");
    const Analysis analysis = analysed(table);

    const auto text = answerText(answerOf(table, analysis), table, analysis);

    EXPECT_EQ(text.at(0), "Best of 2 merges by HV gain: ties of a + b without AIM and linear of a + b without AIM, 0.2500.");
    EXPECT_EQ(text.at(1), "No merge is here both with AIM and without it.");
    EXPECT_THAT(aimTable(table, analysis).rows, testing::IsEmpty());
}

TEST(Answer, OfManyEqualMergesOneIsNamed) {
    const ScoreTable table =
        twoExpertsAnd("p,merged,ties,a+b,1,no,50\nq,merged,l,a+b,1,no,50\nr,merged,m,a+b,1,no,50\ns,merged,n,a+b,1,no,50\n");
    const Analysis analysis = analysed(table);
    EXPECT_EQ(answerText(answerOf(table, analysis), table, analysis).at(0),
              "Best of 4 merges by HV gain: ties of a + b without AIM and 3 others, 0.2500.");
}

TEST(Answer, OfOnePairIsInTheSingular) {
    const ScoreTable table = twoExpertsAnd("p,merged,ties,a+b,1,no,50\nq,merged,ties,a+b,0.4,yes,40\n");
    const Analysis analysis = analysed(table);
    const std::string text = answerText(answerOf(table, analysis), table, analysis).at(1);
    EXPECT_THAT(text, HasSubstr("AIM changed HV gain by -0.1000 on average, from 0.2500 to 0.1500 (its"));
    EXPECT_THAT(text, HasSubstr(": of 1 pair of a merge with AIM and the same without, 0 improved, 1 got worse."));
}

TEST(Answer, WithoutAnyGainIsSaidToo) {
    const ScoreTable table = twoExpertsAnd("p,merged,ties,a+b,1,no,\n");
    const Analysis analysis = analysed(table);
    EXPECT_EQ(answerText(answerOf(table, analysis), table, analysis).at(0), "No merge has an HV gain.");
}

TEST(AimTable, HasAllPairsThenThoseOfEachOmegaAndMethod) {
    const ScoreTable table = twoExpertsAnd(
        "p,merged,ties,a+b,1,no,50\nq,merged,ties,a+b,0.4,yes,100\nr,merged,ties,a+b,0.7,yes,25\n"
        "s,merged,linear,b+a,1,no,25\nt,merged,linear,b+a,0.4,yes,50\n");

    const ReportTable report = aimTable(table, analysed(table));

    EXPECT_EQ(csvTable(report),
              "pairs_of,pairs,without_aim,with_aim,change,standard_error,improved,worse\n"
              "all,3,0.16666666666666666,0.3333333333333333,0.16666666666666666,,2,1\n"
              "\u03C9 = 0.4,2,0.125,0.5,0.375,,2,0\n"
              "\u03C9 = 0.7,1,0.25,0,-0.25,,0,1\n"
              "ties,2,0.25,0.375,0.125,,1,1\n"
              "linear,1,0,0.25,0.25,,1,0\n");  // a+b and b+a are one combination
}

}  // namespace
