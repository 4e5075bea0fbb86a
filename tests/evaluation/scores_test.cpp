#include "aimerge/evaluation/scores.h"

#include <gmock/gmock.h>

#include <cmath>

namespace aimerge {
namespace {

using testing::DoubleNear;

SuiteItem continuation(const std::string& task) {
    return {.task = task, .kind = ItemKind::Continuation, .place = task, .context = {}, .continuations = {{"x", {}, false}}};
}

/// Requests in which every run has a sequence of its own.
EvaluationRequests requestsOf(std::vector<SuiteItem> items, const std::vector<std::pair<std::size_t, std::size_t>>& runs) {
    EvaluationRequests requests;
    requests.items = std::move(items);
    for (const auto& [item, tokens] : runs) {
        requests.runs.push_back({item, 0, requests.sequences.size(), 0, tokens});
        requests.sequences.push_back({std::vector<std::int32_t>(tokens), std::vector<TokenTarget>(tokens)});
    }
    return requests;
}

TEST(Scores, ExactMatchTakesEveryToken) {
    const EvaluationRequests requests =
        requestsOf({continuation("t"), continuation("t"), continuation("t")}, {{0, 2}, {1, 2}, {2, 1}});
    const std::vector<RunScore> runs =
        scoreRuns(requests, {{-0.5f, true}, {-0.25f, true}, {-1, true}, {-2, false}, {-3, true}});

    EXPECT_EQ(runs[0].logLikelihood, -0.75);
    EXPECT_TRUE(runs[0].isGreedy);
    EXPECT_FALSE(runs[1].isGreedy);
    const std::vector<TaskScore> tasks = scoreTasks(requests, runs, ChoiceMetric::Acc);
    ASSERT_EQ(tasks.size(), 1u);
    EXPECT_EQ(tasks[0].metric, "exact_match");
    EXPECT_EQ(tasks[0].items, 3u);
    EXPECT_EQ(tasks[0].outcomes, "101");
    EXPECT_THAT(tasks[0].value, DoubleNear(2.0 / 3, 1e-15));
    EXPECT_THAT(tasks[0].standardError, DoubleNear(1.0 / 3, 1e-15));  // s^2 = (1/9 + 1/9 + 4/9) / 2 = 1/3; sqrt(1/3 / 3)
}

TEST(Scores, ChoicesCountAsTheyAreOrByTheirCharacters) {
    SuiteItem item{.task = "t", .kind = ItemKind::Choices, .place = "", .context = {}, .continuations = {}, .answer = 1};
    item.continuations = {{"abc", {}, false}, {"äöü d", {}, false}};  // 3 and 5 characters
    const EvaluationRequests requests = requestsOf({item}, {{0, 1}, {0, 1}});
    const std::vector<RunScore> runs = scoreRuns(requests, {{-3.0f, false}, {-4.5f, false}});

    EXPECT_EQ(scoreTasks(requests, runs, ChoiceMetric::Acc).at(0).value, 0);      // -3 is larger
    EXPECT_EQ(scoreTasks(requests, runs, ChoiceMetric::AccNorm).at(0).value, 1);  // -1 against -0.9
    EXPECT_EQ(scoreTasks(requests, runs, ChoiceMetric::AccNorm).at(0).metric, "acc_norm");
    EXPECT_EQ(scoreTasks(requests, runs, ChoiceMetric::AccNorm).at(0).standardError, 0);
    EXPECT_EQ(samplesOf(requests, runs).at(0).at("acc"), 0);
    EXPECT_EQ(samplesOf(requests, runs).at(0).at("acc_norm"), 1);
}

TEST(Scores, LengthsOfTheSuiteCountInPlaceOfTheCharacters) {
    SuiteItem item{.task = "t", .kind = ItemKind::Choices, .place = "", .context = {}, .continuations = {}, .answer = 0};
    item.continuations = {{"abc", {}, false}, {"abcde", {}, false}};
    item.lengths = {3, 4};
    const EvaluationRequests requests = requestsOf({item}, {{0, 1}, {0, 1}});

    const std::vector<RunScore> runs = scoreRuns(requests, {{-3.0f, false}, {-4.5f, false}});
    EXPECT_EQ(scoreTasks(requests, runs, ChoiceMetric::AccNorm).at(0).value, 1);  // -1 against -1.125
}

TEST(Scores, OfEqualChoicesTheFirstCounts) {
    SuiteItem item{.task = "t", .kind = ItemKind::Choices, .place = "", .context = {}, .continuations = {}, .answer = 0};
    item.continuations = {{"a", {}, false}, {"b", {}, false}};
    const EvaluationRequests requests = requestsOf({item}, {{0, 1}, {0, 1}});

    EXPECT_EQ(scoreTasks(requests, scoreRuns(requests, {{-2, false}, {-2, false}}), ChoiceMetric::Acc).at(0).value, 1);
}

TEST(Scores, PerplexityWeighsTokensAlike) {
    SuiteItem text{.task = "t", .kind = ItemKind::Text, .place = "", .context = {}, .continuations = {{"x", {}, false}}};
    const EvaluationRequests requests = requestsOf({text}, {{0, 3}, {0, 1}});
    const std::vector<TaskScore> tasks =
        scoreTasks(requests, scoreRuns(requests, {{-1, false}, {-1, false}, {-1, false}, {-3, false}}), ChoiceMetric::Acc);

    EXPECT_THAT(tasks[0].value, DoubleNear(std::exp(1.5), 1e-12));
    EXPECT_THAT(tasks[0].standardError, DoubleNear(std::exp(1.5) * 1.0, 1e-12));  // block means -1, -3: s = sqrt 2, / sqrt 2
    EXPECT_TRUE(tasks[0].isPerplexity());
    EXPECT_EQ(tasks[0].outcomes, "");
}

TEST(Scores, TasksKeepTheirOrderAndSamplesFollowTheItems) {
    const EvaluationRequests requests =
        requestsOf({continuation("b"), continuation("a"), continuation("b")}, {{0, 1}, {1, 1}, {2, 1}});
    const std::vector<RunScore> runs = scoreRuns(requests, {{-1, true}, {-2, false}, {-3, true}});
    const std::vector<TaskScore> tasks = scoreTasks(requests, runs, ChoiceMetric::Acc);

    EXPECT_EQ(tasks[0].task, "b");
    EXPECT_EQ(tasks[0].items, 2u);
    EXPECT_EQ(tasks[1].task, "a");
    const auto samples = samplesOf(requests, runs);
    ASSERT_EQ(samples.size(), 3u);
    EXPECT_EQ(samples[1].at("loglikelihood"), -2.0);
    EXPECT_EQ(samples[2].at("is_greedy"), true);
}

}  // namespace
}  // namespace aimerge
