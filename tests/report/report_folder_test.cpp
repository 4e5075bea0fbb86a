#include "aimerge/report/report_folder.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/report/interactive_figure.h"
#include "aimerge/report/paper_comparison.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include <cstdlib>

using namespace aimerge;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

namespace {

namespace fs = std::filesystem;

const fs::path kPrintedTables = fs::path(AIMERGE_SOURCE_ROOT) / "configs" / "paper" / "printed";

ScoreTable printedScores(const std::string& name) {
    return readScores(kPrintedTables / name, ScoreScale::Hundred).table;
}

TEST(ReportFolder, IsWrittenWithoutPicturesWhereThereIsNoPython) {
    const TempFolder folder;
    const ScoreTable scores = printedScores("table2.csv");
    const Analysis analysis = analyse(scores, Population::Stated);
    Report report;
    report.title = "A & B";
    report.answer = {"First this."};
    report.answerNotes = {"then that"};
    report.facts = {"a fact"};
    report.notices = {"something is missing"};
    report.tables = omegaTables(scores, analysis);
    report.figures = figuresOf(scores, analysis, std::nullopt);
    report.interactive = interactiveData(scores, analysis);
    ::setenv("AIMERGE_PYTHON", "/no/such/python", 1);

    const std::vector<std::string> missing = writeReport(report, folder.path() / "r");

    ::unsetenv("AIMERGE_PYTHON");
    EXPECT_THAT(missing, ElementsAre(AllOf(HasSubstr("no figures"), HasSubstr("/no/such/python")),
                                     AllOf(HasSubstr("no interactive figure"), HasSubstr("/no/such/python"))));
    const std::string html = readTextFile(folder.path() / "r" / "report.html");
    EXPECT_THAT(html, HasSubstr("<title>A &amp; B</title>"));
    EXPECT_THAT(html, HasSubstr("something is missing"));
    EXPECT_THAT(html, HasSubstr("</h1>\n<p class=\"answer\">First this.</p>\n<ul class=\"notes\">\n<li>then that</li>"));
    EXPECT_THAT(html, HasSubstr("The interactive figure is missing: "));
    EXPECT_THAT(html, Not(HasSubstr("<svg")));
    const std::string markdown = readTextFile(folder.path() / "r" / "report.md");
    EXPECT_THAT(markdown, StartsWith("# A & B\n\nFirst this.\n\n- then that\n"));
    EXPECT_THAT(markdown, Not(HasSubstr("figures/")));
    EXPECT_TRUE(fs::exists(folder.path() / "r" / "tables" / "omega-Code-Instruction-Tuned-Math.tex"));
}

TEST(Figures, RelativeGainIsZeroAtOmegaOneAndOverOneMinusOmega) {
    const ScoreTable scores = printedScores("table2.csv");

    const auto figures = figuresOf(scores, analyse(scores, Population::Stated), std::nullopt);

    ASSERT_EQ(figures.size(), 3u);
    EXPECT_EQ(figures[1].data["kind"], "relative_gain");
    const auto& ties = figures[1].data["panels"][0]["lines"][0];
    EXPECT_EQ(ties["method"], "Ties Merging");
    EXPECT_EQ(ties["x"][5], 0.0);
    EXPECT_EQ(ties["y"][5], 0.0);
    EXPECT_NEAR(ties["x"][2].get<double>(), 0.6, 1e-15);
    EXPECT_NEAR(ties["y"][2].get<double>(), (0.1143 / 0.1096 - 1) * 100, 0.1);  // the printed gains
}

TEST(PaperComparison, OfThePapersOwnScoresIsComplete) {
    for (const int number : {1, 2, 3}) {
        const ScoreTable scores = printedScores("table" + std::to_string(number) + ".csv");

        const ReportTable table = paperComparison(scores, analyse(scores, Population::AsPrinted), number, kPrintedTables);

        EXPECT_EQ(table.rows.size(), number == 2 ? 34u : 44u);
        EXPECT_THAT(table.caption, HasSubstr("humaneval 0.00, mbpp 0.00, mmlu 0.00, math 0.00, gsm8k 0.00, ifeval 0.00"));
    }
}

TEST(PaperComparison, MatchesOurNamesRolesAndPrompts) {
    const ScoreTable scores = parseScores(
                                  "model,kind,method,combination,omega,aim,gsm8k,gsm8k_paper_prompt\n"
                                  "base,base,,,,,1,2\ncode,expert,,code,,,1,2\ninstruct,expert,,instruct,,,3,4\n"
                                  "a,merged,dare_linear,instruct+code,0.4,yes,45,46\n"
                                  "b,merged,dare_linear,instruct+code,0.6,yes,45,46\n"
                                  "c,merged,karcher,instruct+code,0.4,yes,45,46\n",
                                  "s.csv", ScoreScale::Hundred)
                                  .table;

    const ReportTable table = paperComparison(scores, analyse(scores, Population::Stated), 1, kPrintedTables);

    ASSERT_EQ(table.rows.size(), 4u);
    const ReportCell& gsm8k = table.rows[3].cells[7];
    EXPECT_EQ(table.columns[7].title, "gsm8k_paper_prompt");
    EXPECT_EQ(gsm8k.value, 46.0);
    EXPECT_EQ(gsm8k.note, "46.20");
    EXPECT_EQ(table.rows[3].cells[3].value, std::nullopt);
    EXPECT_EQ(table.rows[3].cells[3].note, "29.27");
    EXPECT_THAT(table.caption, HasSubstr("4 of the 44 printed rows"));
}

}  // namespace
