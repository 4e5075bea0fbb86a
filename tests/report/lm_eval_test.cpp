#include "aimerge/report/lm_eval.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/report/analysis.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

using namespace aimerge;
using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

namespace {

namespace fs = std::filesystem;

ScoreTable points(const std::string& rows = "") {
    return parseScores("model,kind,method,combination,omega,aim\nbase,base,,,,\ncode,expert,,code,,\n" + rows, "points.csv",
                       ScoreScale::One)
        .table;
}

class LmEval : public testing::Test {
protected:
    void write(const std::string& model, const json& results, const std::string& time = "2026-11-25T00-00-00",
               json more = {}) {
        json file{{"results", results}, {"lm_eval_version", "0.4.9"}, {"config", {{"model", "hf"}, {"limit", nullptr}}}};
        if (!more.is_null()) file.merge_patch(more);
        fs::create_directories(folder.path() / model / "some__path");
        writeTextFile(folder.path() / model / "some__path" / ("results_" + time + ".json"), file.dump());
    }

    TempFolder folder;
};

TEST_F(LmEval, ScoresOfTheHarnessItselfAreRead) {
    ScoreTable table = points();

    const auto notices = addLmEvalScores(table, fs::path(AIMERGE_TEST_DATA) / "lm_eval" / "results");

    ASSERT_EQ(table.benchmarks.size(), 2u);
    EXPECT_EQ(table.benchmarks[0].name, "requests");
    EXPECT_EQ(table.rows[0].scores[0], 100 * 5.0 / 23);
    EXPECT_EQ(table.rows[0].scores[1], 100 * 9.0 / 13);
    EXPECT_EQ(table.rows[0].scoredBy, "lm-eval 0.4.13, hf: requests acc 0-shot; choices acc 0-shot");
    EXPECT_EQ(table.rows[1].scores[0], std::nullopt);
    EXPECT_THAT(notices, ElementsAre("no results of lm-eval for: code"));
}

TEST_F(LmEval, AScoreThatIsNoNumberIsAMissingOne) {
    const fs::path results = folder.path() / "base" / "some__path";
    fs::create_directories(results);
    writeTextFile(results / "results_2026-11-25T00-00-00.json",
                  R"({"results": {"arc": {"acc,none": 0.5, "acc_stderr,none": NaN}, "piqa": {"acc,none": NaN},
                      "wiki": {"word_perplexity,none": Infinity}}, "config": {"model": "hf"}})");
    ScoreTable table = points();

    const auto notices = addLmEvalScores(table, folder.path());

    ASSERT_EQ(table.benchmarks.size(), 1u);
    EXPECT_EQ(table.benchmarks[0].name, "arc");
    EXPECT_EQ(table.rows[0].scores[0], 50);
    EXPECT_THAT(notices, Contains("scores of lm-eval that are NaN or infinite, and count as missing: base piqa, base wiki"));
}

TEST_F(LmEval, ResultsOfVersion03AreRefusedAsSuch) {
    write("base", {{"arc", {{"acc", 0.25}, {"acc_stderr", 0.01}}}});
    ScoreTable table = points();

    EXPECT_THAT(
        [&] { addLmEvalScores(table, folder.path()); },
        ThrowsMessage<InputError>(HasSubstr("results of lm-eval 0.3: task arc has the metric 'acc', which lm-eval 0.4 "
                                            "writes as 'acc,none'; score this model again with lm-eval 0.4")));
}

TEST_F(LmEval, TheSixBenchmarksCountByTheirUsualMetrics) {
    write("base",
          {{"humaneval", {{"pass@1,create_test", 0.25}}},
           {"mbpp", {{"pass_at_1,none", 0.375}}},
           {"mmlu", {{"acc,none", 0.5}, {"acc_stderr,none", 0.01}}},
           {"mmlu_stem", {{"acc,none", 0.1}}},
           {"mmlu_anatomy", {{"acc,none", 0.1}}},
           {"ifeval",
            {{"inst_level_loose_acc,none", 0.9},
             {"prompt_level_loose_acc,none", 0.8},
             {"prompt_level_strict_acc,none", 0.125}}},
           {"gsm8k", {{"exact_match,flexible-extract", 0.9}, {"exact_match,strict-match", 0.625}}},
           {"minerva_math", {{"exact_match,none", 0.75}, {"math_verify,none", 0.8}}}},
          "2026-11-25T00-00-00",
          {{"group_subtasks", {{"mmlu", {"mmlu_stem"}}, {"mmlu_stem", {"mmlu_anatomy", "mmlu_virology"}}}},
           {"n-shot", {{"gsm8k", 5}}},
           {"n-samples",
            {{"gsm8k", {{"original", 1319}, {"effective", 100}}},
             {"mmlu_anatomy", {{"effective", 135}}},
             {"mmlu_virology", {{"effective", 166}}}}}});
    ScoreTable table = points();

    addLmEvalScores(table, folder.path());

    std::map<std::string, double> scores;
    for (std::size_t b = 0; b < table.benchmarks.size(); ++b)
        scores[table.benchmarks[b].name] = table.rows[0].scores[b].value();
    EXPECT_EQ(scores,
              (std::map<std::string, double>{
                  {"humaneval", 25}, {"mbpp", 37.5}, {"mmlu", 50}, {"ifeval", 12.5}, {"gsm8k", 62.5}, {"math", 75}}));
    std::map<std::string, std::size_t> items;
    for (std::size_t b = 0; b < table.benchmarks.size(); ++b) items[table.benchmarks[b].name] = table.rows[0].items[b].count;
    EXPECT_EQ(items, (std::map<std::string, std::size_t>{
                         {"humaneval", 0}, {"mbpp", 0}, {"mmlu", 301}, {"ifeval", 0}, {"gsm8k", 100}, {"math", 0}}));
    EXPECT_THAT(table.rows[0].scoredBy, HasSubstr("gsm8k exact_match (strict-match) 5-shot"));
    EXPECT_THAT(table.rows[0].scoredBy, HasSubstr("math minerva_math exact_match"));
}

TEST_F(LmEval, BesideThePapersPromptTheOtherIsShownOnly) {
    write("base", {{"gsm8k", {{"exact_match,strict-match", 0.1}}}, {"gsm8k_paper_prompt", {{"exact_match,none", 0.2}}}});
    ScoreTable table = points();

    addLmEvalScores(table, folder.path());

    EXPECT_FALSE(table.counts(0));
    EXPECT_TRUE(table.counts(1));
    EXPECT_THAT(analyse(table, Population::Stated).notices, Contains(HasSubstr("gsm8k is shown only")));
}

TEST_F(LmEval, PerplexitiesStayAsTheyAre) {
    write("base", {{"wikitext", {{"word_perplexity,none", 12.5}, {"bits_per_byte,none", 0.7}}}});
    ScoreTable table = points();

    addLmEvalScores(table, folder.path());

    EXPECT_EQ(table.benchmarks[0].name, "wikitext:ppl");
    EXPECT_TRUE(table.benchmarks[0].lowerIsBetter);
    EXPECT_EQ(table.rows[0].scores[0], 12.5);
}

TEST_F(LmEval, TheLastFileCountsAndOthersAdd) {
    write("base", {{"a", {{"acc,none", 0.25}}}, {"b", {{"acc,none", 0.5}}}}, "2026-11-25T00-00-00");
    write("base", {{"a", {{"acc,none", 0.75}}}}, "2026-11-26T00-00-00");
    ScoreTable table = points();

    addLmEvalScores(table, folder.path());

    EXPECT_EQ(table.rows[0].scores[0], 75.0);
    EXPECT_EQ(table.rows[0].scores[1], 50.0);
}

TEST_F(LmEval, WhatIsLeftOutIsSaid) {
    write("base", {{"a", {{"acc,none", 0.25}}}, {"odd", {{"bleu,none", 3.0}}}}, "2026-11-25T00-00-00",
          {{"config", {{"limit", 5}}}});
    write("stranger", {{"a", {{"acc,none", 0.25}}}});
    ScoreTable table = points();

    const auto notices = addLmEvalScores(table, folder.path());

    EXPECT_THAT(notices, ElementsAre("no results of lm-eval for: code",
                                     "results of lm-eval for models that are not in the table, left out: stranger",
                                     "tasks of lm-eval without a metric that is known here, left out: odd",
                                     "scored by lm-eval on part of the items only (--limit): base"));
}

TEST_F(LmEval, FoldersThatCannotBeUsedAreErrors) {
    ScoreTable table = points();
    EXPECT_THAT([&] { addLmEvalScores(table, folder.path() / "none"); },
                ThrowsMessage<InputError>(HasSubstr("none: no such folder")));
    EXPECT_THAT([&] { addLmEvalScores(table, folder.path()); },
                ThrowsMessage<InputError>(HasSubstr("no folder in it has results of a model of points.csv")));
    fs::create_directories(folder.path() / "base");
    writeTextFile(folder.path() / "base" / "results_1.json", "{\"results\": ");
    EXPECT_THAT([&] { addLmEvalScores(table, folder.path()); },
                ThrowsMessage<InputError>(HasSubstr("results_1.json: not a result file")));
}

TEST_F(LmEval, ATaskThatIsAColumnAlreadyIsAnError) {
    write("base", {{"x", {{"acc,none", 0.25}}}});
    ScoreTable table = parseScores("model,kind,combination,x\nbase,base,,0.5\n", "points.csv", ScoreScale::One).table;

    EXPECT_THAT([&] { addLmEvalScores(table, folder.path()); },
                ThrowsMessage<InputError>(HasSubstr("`x` is scored there and is also a column of points.csv")));
}

}  // namespace
