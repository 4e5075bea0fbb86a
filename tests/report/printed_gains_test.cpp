// The HV gains of the AIM paper's tables, from its own scores (configs/paper/printed).
#include "aimerge/core/file.h"
#include "aimerge/report/analysis.h"
#include "aimerge/report/csv.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <string>

using namespace aimerge;

namespace {

const std::filesystem::path kPrinted = std::filesystem::path(AIMERGE_SOURCE_ROOT) / "configs" / "paper" / "printed";

std::map<std::string, std::map<std::string, std::string>> printedGains(const std::string& table) {
    const std::filesystem::path file = kPrinted / (table + "-gains.csv");
    const auto records = parseCsv(readTextFile(file), file);
    std::map<std::string, std::map<std::string, std::string>> gains;
    for (std::size_t r = 1; r < records.size(); ++r)
        for (std::size_t c = 1; c < records[r].fields.size(); ++c)
            gains[records[r].fields[0]][records[0].fields[c]] = records[r].fields[c];
    return gains;
}

/// How many merged rows round to the printed gain.
int matches(const std::string& table, Population population, double halfUnit) {
    const ScoreTable scores = readScores(kPrinted / (table + ".csv"), ScoreScale::Hundred).table;
    const Analysis analysis = analyse(scores, population);
    const auto gains = printedGains(table);
    int count = 0;
    for (std::size_t i = 0; i < scores.rows.size(); ++i) {
        if (scores.rows[i].kind != ModelKind::Merged) continue;
        const double printed = std::stod(gains.at(scores.rows[i].model).at("hv_gain"));
        count += std::abs(analysis.rows[i].gain.value() - printed) <= halfUnit;
    }
    return count;
}

TEST(PrintedGains, AllThirtyOfTable2FollowFromTheStatedPopulation) {
    EXPECT_EQ(matches("table2", Population::Stated, 0.5e-4), 30);
    EXPECT_EQ(matches("table2", Population::AsPrinted, 0.5e-4), 30);
    EXPECT_EQ(matches("table2", Population::All, 0.5e-4), 30);
}

TEST(PrintedGains, AllFortyOfTables1And3FollowFromThePopulationsReallyUsed) {
    EXPECT_EQ(matches("table1", Population::AsPrinted, 0.5e-2), 40);
    EXPECT_EQ(matches("table3", Population::AsPrinted, 0.5e-2), 40);
}

TEST(PrintedGains, OnlySomeOfTable1FollowFromTheStatedPopulation) {
    EXPECT_EQ(matches("table1", Population::Stated, 0.5e-2), 21);
}

// tests/data/report/hv_recomputed.csv: both populations in exact rational arithmetic, rounded to 6 decimals.
TEST(PrintedGains, EqualExactRationalArithmetic) {
    const std::filesystem::path file = std::filesystem::path(AIMERGE_TEST_DATA) / "report" / "hv_recomputed.csv";
    const auto records = parseCsv(readTextFile(file), file);
    const std::vector<std::string>& header = records[0].fields;
    const auto column = [&header](const std::string& name) {
        return static_cast<std::size_t>(std::find(header.begin(), header.end(), name) - header.begin());
    };
    int compared = 0;

    for (const std::string table : {"table1", "table2", "table3"}) {
        const ScoreTable scores = readScores(kPrinted / (table + ".csv"), ScoreScale::Hundred).table;
        const Analysis stated = analyse(scores, Population::Stated), printed = analyse(scores, Population::AsPrinted);
        for (std::size_t r = 1; r < records.size(); ++r) {
            if (records[r].fields[0] != table) continue;
            const std::size_t row =
                std::stoul(records[r].fields[column("row")]) - 1;  // rows of the files are in the tables' order
            EXPECT_NEAR(stated.rows[row].gain.value(), std::stod(records[r].fields[column("hv_gain_stated_population")]),
                        0.51e-6);
            EXPECT_NEAR(printed.rows[row].gain.value(), std::stod(records[r].fields[column("hv_gain_that_population")]),
                        0.51e-6);
            ++compared;
        }
    }

    EXPECT_EQ(compared, 110);
}

TEST(PrintedGains, PercentChangesOfTables1And3FollowFromTheScores) {
    for (const std::string table : {"table1", "table3"}) {
        const ScoreTable scores = readScores(kPrinted / (table + ".csv"), ScoreScale::Hundred).table;
        const Analysis analysis = analyse(scores, Population::AsPrinted);
        const auto gains = printedGains(table);
        for (std::size_t i = 0; i < scores.rows.size(); ++i) {
            if (!scores.rows[i].aim) continue;
            const auto& printed = gains.at(scores.rows[i].model);
            const auto expectPrinted = [](std::optional<double> change, const std::string& text) {
                ASSERT_TRUE(change.has_value());
                if (text == "inf") {
                    EXPECT_TRUE(std::isinf(*change));
                } else {
                    EXPECT_NEAR(*change, text.empty() ? 0 : std::stod(text), 0.00501);
                }
            };
            for (std::size_t b = 0; b < scores.benchmarks.size(); ++b)
                expectPrinted(analysis.rows[i].change[b], printed.at(scores.benchmarks[b].name + "_change_pct"));
            expectPrinted(analysis.rows[i].gainChange, printed.at("hv_gain_change_pct"));
        }
    }
}

}  // namespace
