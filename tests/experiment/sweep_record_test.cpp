#include "aimerge/experiment/sweep_record.h"

#include "aimerge/experiment/recorded_points.h"
#include "aimerge/report/ablation.h"
#include "aimerge/report/analysis.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

PointResult done(const std::string& key, double value) {
    return {.key = key,
            .status = PointStatus::Done,
            .seconds = 1.5,
            .error = {},
            .scores = {{"math", "exact_match", value, 0.01, 60}, {"general", "perplexity", 24.5, 1, 1}},
            .scoredBy = "aimerge float32"};
}

TEST(SweepJournal, KeepsResultsOverRunsUnderTheirKeys) {
    const TempFolder folder;
    SweepJournal(folder.path()).record("a", done("k1", 0.25));
    SweepJournal journal(folder.path());
    journal.record("b", done("k2", 0.5));

    const SweepJournal again(folder.path());
    ASSERT_NE(again.find("a", "k1"), nullptr);
    EXPECT_EQ(again.find("a", "k1")->scores.at(0).value, 0.25);
    EXPECT_EQ(again.find("a", "k1")->scores.at(1).metric, "perplexity");
    EXPECT_EQ(again.find("a", "k2"), nullptr);  // something that decides it has changed
    EXPECT_NE(again.find("b", "k2"), nullptr);
}

TEST(SweepJournal, KeepsTheOutcomesOfItemsAndTheConfig) {
    const TempFolder folder;
    PointResult result = done("k", 0.75);
    result.scores[0].outcomes = "1101";
    result.config = "merge_method: ties\n";
    SweepJournal(folder.path()).record("a", result);
    SweepJournal(folder.path()).record("b", done("k", 0.75));

    const SweepJournal journal(folder.path());
    EXPECT_EQ(journal.results().at("a").scores.at(0).outcomes, "1101");
    EXPECT_EQ(journal.results().at("a").config, "merge_method: ties\n");
    EXPECT_EQ(journal.results().at("b").scores.at(0).outcomes, "");
}

TEST(RecordedPoints, GoToRowsThatHaveTheirScoresOnly) {
    const TempFolder folder;
    SweepJournal journal(folder.path());
    PointResult result = done("k", 0.7);  // 100 * 0.7 is not 70
    result.scores[0].outcomes = "1101";
    result.config = "merge_method: ties\n";
    for (const char* point : {"a", "b", "elsewhere"}) journal.record(point, result);
    const auto point = [](const std::string& name) {
        return SweepPoint{name, PointKind::Merged, {}, "ties", "x+y", 0.4, {}};
    };
    PointResult other = result;
    other.scores[0].value = 0.5;
    const std::string text = pointsCsv({point("a"), point("b"), point("c")}, {result, other, result});
    ScoreTable table = parseScores(text, "points.csv", ScoreScale::Hundred).table;

    addRecorded(table, journal);

    EXPECT_EQ(table.rows[0].items[0].outcomes, "1101");
    EXPECT_EQ(table.rows[0].items[0].count, 60u);
    EXPECT_EQ(table.rows[0].items[1].count, 1u);
    EXPECT_EQ(table.rows[0].config, "merge_method: ties\n");
    EXPECT_EQ(table.rows[1].items[0].count, 0u);  // another score
    EXPECT_EQ(table.rows[1].config, "");
    EXPECT_EQ(table.rows[2].items[0].count, 0u);  // not in the journal
}

TEST(SweepJournal, ReadingLeavesTheFolderAsItIs) {
    const TempFolder folder;
    EXPECT_EQ(SweepJournal(folder.path(), SweepJournal::Use::Read).find("a", "k"), nullptr);
    EXPECT_FALSE(exists(folder / "journal"));
    SweepJournal(folder.path()).record("a", done("k", 0.25));
    const std::string torn = readTextFile(folder / "journal") + "{";
    writeTextFile(folder / "journal", torn);

    EXPECT_NE(SweepJournal(folder.path(), SweepJournal::Use::Read).find("a", "k"), nullptr);
    EXPECT_EQ(readTextFile(folder / "journal"), torn);
}

TEST(SweepJournal, TheLastResultOfAPointCountsAndATornLineCountsForNothing) {
    const TempFolder folder;
    {
        SweepJournal journal(folder.path());
        journal.record("a", done("k", 0.25));
        journal.record("a", done("k", 0.75));
    }
    const std::string text = readTextFile(folder / "journal");
    writeTextFile(folder / "journal", text + text.substr(0, 40));

    SweepJournal journal(folder.path());
    EXPECT_EQ(journal.find("a", "k")->scores.at(0).value, 0.75);
    journal.record("b", done("k", 0.5));
    EXPECT_NE(SweepJournal(folder.path()).find("b", "k"), nullptr);
}

TEST(PointsCsv, HasARowPerPointAndAColumnPerTask) {
    std::vector<SweepPoint> points{{"base", PointKind::Base, "m", {}, {}, {}, {}},
                                   {"ties-a+b-omega-0.4", PointKind::Merged, {}, "ties", "a+b", 0.4, {}},
                                   {"ties-a+b-omega-1.0", PointKind::Merged, {}, "ties", "a+b", 1.0, {}}};
    PointResult failed{.key = "k",
                       .status = PointStatus::Failed,
                       .seconds = 0.5,
                       .error = "x: \"no\", never",
                       .scores = {},
                       .scoredBy = {}};

    EXPECT_EQ(pointsCsv(points, {done("k", 0.125), failed, {}}),
              "model,kind,method,combination,omega,aim,status,seconds,error,scored_by,math,general:ppl\n"
              "base,base,,,,,done,1.500,,aimerge float32,12.5,24.5\n"
              "ties-a+b-omega-0.4,merged,ties,a+b,0.4,yes,failed,0.500,\"x: \"\"no\"\", never\",,,\n"
              "ties-a+b-omega-1.0,merged,ties,a+b,1,no,pending,0.000,,,,\n");
    EXPECT_THAT(pointsTable(points, {done("k", 0.125), failed, {}}), testing::HasSubstr("failed"));
}

TEST(PointsCsv, AReportReadsTheColumnsOfAGrid) {
    const auto point = [](const std::string& name, double omega, std::vector<std::pair<std::string, std::string>> grid) {
        return SweepPoint{name, PointKind::Merged, {}, "ties", "a+b", omega, {}, std::move(grid)};
    };
    const std::vector<SweepPoint> points{{"a", PointKind::Expert, "m", {}, {}, {}, {}},
                                         {"b", PointKind::Expert, "m", {}, {}, {}, {}},
                                         point("p", 1.0, {{"density", "0.2"}}),
                                         point("q", 0.4, {{"density", "0.2"}, {"aim_shape", "top:0.2"}}),
                                         point("r", 0.4, {{"density", "0.2"}, {"aim_shape", "linear"}}),
                                         point("s", 1.0, {{"density", "0.5"}})};
    const std::vector<PointResult> results(points.size(), done("k", 0.5));

    const std::string text = pointsCsv(points, results);
    const ScoreTable table = parseScores(text, "points.csv", ScoreScale::Hundred).table;
    const Analysis analysis = analyse(table, Population::Stated);
    const std::vector<MergeGroup> groups = mergeGroups(table);

    EXPECT_THAT(text, testing::HasSubstr("scored_by,grid:density,grid:aim_shape,math,"));
    EXPECT_EQ(table.benchmarks.size(), 2u);
    EXPECT_EQ(table.rows[3].method, "ties density=0.2 aim_shape=top:0.2");
    EXPECT_EQ(analysis.rows[3].plain, 2u);
    EXPECT_EQ(analysis.rows[4].plain, 2u);
    EXPECT_EQ(analysis.rows[5].plain, std::nullopt);
    ASSERT_EQ(groups.size(), 3u);
    EXPECT_EQ(groups[0].plain, 2u);
    EXPECT_THAT(groups[0].withAim, testing::ElementsAre(3u));
    EXPECT_EQ(groups[1].plain, 2u);
    EXPECT_THAT(groups[1].withAim, testing::ElementsAre(4u));
    EXPECT_EQ(groups[2].plain, 5u);
}

}  // namespace
}  // namespace aimerge
