#pragma once
// Scores of a suite from the log-probabilities of its tokens.

#include "aimerge/evaluation/requests.h"
#include "aimerge/scoring/score_batches.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace aimerge {

/// The score of one TargetRun.
struct RunScore {
    double logLikelihood = 0;  // sum over the tokens
    bool isGreedy = true;      // all of them
    std::size_t tokens = 0;
};

/// What counts as a choice's log-likelihood: its sum (acc), or its sum divided by the choice's characters (acc_norm; by its
/// tokens where the suite gives token ids).
enum class ChoiceMetric { Acc, AccNorm };

struct TaskScore {
    std::string task;
    std::string metric;  // "exact_match", "acc", "acc_norm", "perplexity"
    double value = 0;    // 0 ... 1; a perplexity from 1 on
    double standardError = 0;
    std::size_t items = 0;
    std::string outcomes = {};  // of exact match and accuracies: '1' or '0' per item, right or wrong, in the suite's order

    bool isPerplexity() const { return metric == "perplexity"; }
};

/// @param tokens one per target, sequence after sequence
std::vector<RunScore> scoreRuns(const EvaluationRequests& requests, const std::vector<TokenScore>& tokens);

/// Exact match and accuracies: mean over the items, and its standard error s / sqrt(n) with s^2 = sum (x -
/// mean)^2 / (n - 1). Perplexity: exp of minus the mean log-probability of a task's tokens; its error to first
/// order from the blocks' means.
std::vector<TaskScore> scoreTasks(const EvaluationRequests& requests, const std::vector<RunScore>& runs,
                                  ChoiceMetric choices);

/// The lines of --samples, one per item: its task and place, `loglikelihood`, `is_greedy` and `tokens`; lists of them for
/// choices and for the blocks of a text. Of choices also `answer`, and whether it is the best one by `acc` and `acc_norm`.
std::vector<nlohmann::ordered_json> samplesOf(const EvaluationRequests& requests, const std::vector<RunScore>& runs);

}  // namespace aimerge
