#include "aimerge/report/report_table.h"

#include "aimerge/report/ablation.h"
#include "aimerge/report/csv.h"

#include <gmock/gmock.h>

using namespace aimerge;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

namespace {

/// Two methods and one model that only the notes tell apart.
ReportTable sample() {
    ReportTable table{
        "t",
        "Title",
        "Caption.",
        "best of all",
        "",
        "change",
        {{"method", "method", "", false, false}, {"a_b", "a_b", "a_b_change", true, false}, {"ppl", "ppl", "", true, true}},
        {}};
    table.rows.push_back({{textCell("ties|x"), numberCell(1.0 / 3, 2), numberCell(9, 1)}, true});
    table.rows.push_back({{textCell("ties|x"), numberCell(50, 2), numberCell(7, 1)}, false});
    table.rows.push_back({{textCell("a<b"), numberCell(std::nullopt, 2), numberCell(8, 1)}, true});
    table.rows[1].cells[1].note = "+2.00%";
    table.rows[1].cells[1].noteValue = 2;
    markBest(table, {0, 1, 2}, &ReportCell::best);
    return table;
}

TEST(ReportTable, TheBestIsTheGreatestOrOfPerplexitiesTheLeast) {
    const ReportTable table = sample();

    EXPECT_FALSE(table.rows[0].cells[1].best);
    EXPECT_TRUE(table.rows[1].cells[1].best);
    EXPECT_TRUE(table.rows[1].cells[2].best);
    EXPECT_FALSE(table.rows[2].cells[1].best);
}

TEST(ReportTable, EqualBestCellsAreAllMarked) {
    ReportTable table = sample();
    table.rows[0].cells[2] = numberCell(7, 1);

    markBest(table, {0, 1, 2}, &ReportCell::bestOfPart);

    EXPECT_TRUE(table.rows[0].cells[2].bestOfPart);
    EXPECT_TRUE(table.rows[1].cells[2].bestOfPart);
}

TEST(ReportTable, TerminalColumnsAreAligned) {
    EXPECT_EQ(terminalTable(sample()),
              "method            a_b   ppl\n"
              "---------------------------\n"
              "ties|x   0.33          9.0\n"
              "        50.00* +2.00%  7.0*\n"
              "\n"
              "a<b         \u2013          8.0\n");
}

TEST(ReportTable, CaptionsSayWhatMarksMean) {
    EXPECT_EQ(captionText(sample()), "Bold: best of all. In brackets: change. Caption.");
    EXPECT_EQ(terminalCaption(sample()), "*: best of all. To the right of a score: change. Caption.");
}

TEST(ReportTable, MarkdownEscapesAndMarks) {
    EXPECT_EQ(markdownTable(sample()),
              "| method | a\\_b | ppl |\n| --- | ---: | ---: |\n| ties\\|x | 0.33 | 9.0 |\n"
              "| ties\\|x | **50.00** (+2.00%) | **7.0** |\n| a&lt;b | \u2013 | 8.0 |\n");
}

TEST(ReportTable, CsvHasFullPrecisionAndNotesOfTheirOwn) {
    EXPECT_EQ(csvTable(sample()), "method,a_b,a_b_change,ppl\nties|x,0.3333333333333333,,9\nties|x,50,2,7\na<b,,,8\n");
}

TEST(ReportTable, LatexEscapesAndMarks) {
    const std::string text = latexTable(sample());

    EXPECT_THAT(text, HasSubstr("method & a\\_b & ppl \\\\"));
    EXPECT_THAT(text, HasSubstr(" & \\textbf{50.00} (+2.00\\%) & \\textbf{7.0} \\\\"));
    EXPECT_THAT(text, HasSubstr("\\hline\na<b & -- & 8.0 \\\\"));
    EXPECT_THAT(text, testing::StartsWith("% \\usepackage{graphicx}"));
    EXPECT_THAT(text, testing::EndsWith("\\end{tabular}}\n\\end{table*}\n"));
}

TEST(ReportTable, HtmlEscapesAndMarks) {
    const std::string text = htmlTable(sample());

    EXPECT_THAT(text, HasSubstr("a&lt;b"));
    EXPECT_THAT(text, Not(HasSubstr("a<b")));
    EXPECT_THAT(text, HasSubstr("<strong>50.00</strong><small>+2.00%</small>"));
}

TEST(ReportTable, HtmlHasTheValuesToSortByAndLinksToConfigs) {
    ReportTable table = sample();
    table.rows[1].model = "m";
    table.rows[2].model = "without a config";

    const std::string text = htmlTable(table, {{"m", 7}});

    EXPECT_THAT(text, HasSubstr("<th class=\"number\" data-lower>ppl</th>"));
    EXPECT_THAT(text, HasSubstr("<td class=\"number\" data-value=\"0.3333333333333333\">0.33</td>"));
    EXPECT_THAT(text, HasSubstr("<td class=\"number\">\u2013</td>"));
    EXPECT_THAT(text, HasSubstr("<td data-text=\"ties|x\">ties|x</td>"));
    EXPECT_THAT(text, HasSubstr("<td data-text=\"ties|x\">ties|x <a class=\"config\" href=\"#config-7\">config</a></td>"));
    EXPECT_THAT(text, Not(HasSubstr("a&lt;b <a")));
}

TEST(ReportTable, FileNamesArePlain) {
    EXPECT_EQ(fileName("omega-code + math/x"), "omega-code-math-x");
    EXPECT_EQ(fileName("../a b"), "..-a-b");
}

ScoreTable scores() {
    return parseScores(
               "model,kind,method,combination,omega,aim,x,y\n"
               "b,base,,,,,10,20\ncode,expert,,,,,50,20\nmath,expert,,,,,10,60\n"
               "p,merged,ties,code+math,1,no,40,40\n"
               "a2,merged,ties,code+math,0.2,yes,30,50\n"
               "a4,merged,ties,code+math,0.4,yes,44,44\n"
               "l,merged,linear,code+math,1,no,41,30\n"
               "f,merged,linear,code+math,0.4,yes,,\n",
               "s.csv", ScoreScale::Hundred)
        .table;
}

/// The texts of a column.
std::vector<std::string> column(const ReportTable& table, std::size_t index) {
    std::vector<std::string> texts;
    for (const ReportRow& row : table.rows) texts.push_back(row.cells[index].text);
    return texts;
}

TEST(AblationTable, IsLaidOutAsTable1) {
    const ScoreTable table = scores();

    const ReportTable report = ablationTable(table, analyse(table, Population::Stated));

    EXPECT_THAT(column(report, 0), ElementsAre("b", "code", "math", "ties", "ties", "linear", "linear"));
    EXPECT_THAT(column(report, 2), ElementsAre("\u2013", "\u2013", "\u2013", "no", "yes", "no", "yes"));
    EXPECT_THAT(column(report, 3), ElementsAre("10.00", "50.00", "10.00", "40.00", "44.00", "41.00", "\u2013"));
    EXPECT_EQ(report.rows[4].cells[3].note, "+10.00%");
    EXPECT_TRUE(report.rows[4].cells[3].best);
    EXPECT_FALSE(report.rows[1].cells[3].best);  // only merges compete
    EXPECT_THAT(report.caption, HasSubstr("AIM: \u03C9 = 0.4."));
}

TEST(OmegaTable, IsThereForCombinationsWithThreeOmegas) {
    const ScoreTable table = scores();

    const auto reports = omegaTables(table, analyse(table, Population::Stated));

    ASSERT_THAT(reports, SizeIs(1));
    EXPECT_EQ(reports[0].name, "omega-code-math");
    EXPECT_THAT(column(reports[0], 0), ElementsAre("ties", "ties", "ties", "linear", "linear"));
    EXPECT_THAT(column(reports[0], 1), ElementsAre("0.2", "0.4", "1", "0.4", "1"));
    EXPECT_TRUE(reports[0].rows[4].cells[2].bestOfPart);
    EXPECT_FALSE(reports[0].rows[4].cells[2].best);
}

TEST(MissingTable, HasTheRowsThatAreNotDone) {
    const ScoreTable table = parseScores(
                                 "model,kind,method,combination,status,error,x\ncode,expert,,,done,,5\n"
                                 "m,merged,ties,code,failed,\"no space, on disk\",\n",
                                 "s.csv", ScoreScale::Hundred)
                                 .table;

    EXPECT_EQ(csvTable(missingTable(table)), "model,status,error\nm,failed,\"no space, on disk\"\n");
}

}  // namespace
