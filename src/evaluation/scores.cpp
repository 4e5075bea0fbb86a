#include "aimerge/evaluation/scores.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

namespace aimerge {
namespace {

/// What scoreRuns() said of an item's runs, in their order.
using ItemRuns = std::vector<std::size_t>;

std::vector<ItemRuns> runsByItem(const EvaluationRequests& requests) {
    std::vector<ItemRuns> byItem(requests.items.size());
    for (std::size_t run = 0; run < requests.runs.size(); ++run) byItem[requests.runs[run].item].push_back(run);
    return byItem;
}

/// Unicode characters of UTF-8 text.
std::size_t characters(const std::string& text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0u) != 0x80u; }));
}

double lengthOf(const SuiteItem& item, std::size_t number) {
    if (!item.lengths.empty()) return item.lengths[number];
    const SuiteText& choice = item.continuations[number];
    return static_cast<double>(choice.isEncoded ? choice.ids.size() : characters(choice.text));
}

/// The first of the best choices.
std::size_t bestChoice(const SuiteItem& item, const ItemRuns& own, const std::vector<RunScore>& runs, ChoiceMetric metric) {
    const auto value = [&](std::size_t choice) {
        const double sum = runs[own[choice]].logLikelihood;
        return metric == ChoiceMetric::Acc ? sum : sum / lengthOf(item, choice);
    };
    std::size_t best = 0;
    for (std::size_t choice = 1; choice < own.size(); ++choice)
        if (value(choice) > value(best)) best = choice;
    return best;
}

double meanOf(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
}

double standardErrorOf(const std::vector<double>& values) {
    if (values.size() < 2) return 0;
    const double mean = meanOf(values);
    double squares = 0;
    for (const double value : values) squares += (value - mean) * (value - mean);
    const auto n = static_cast<double>(values.size());
    return std::sqrt(squares / (n - 1) / n);
}

/// A task's items as they come in.
struct Task {
    TaskScore score;
    std::vector<double> values;  // per item right or wrong; of texts per block the mean log-probability
    double logLikelihood = 0;    // of texts
    std::size_t tokens = 0;
};

}  // namespace

std::vector<RunScore> scoreRuns(const EvaluationRequests& requests, const std::vector<TokenScore>& tokens) {
    const std::vector<std::size_t> firstOf = firstTargets(requests.sequences);
    std::vector<RunScore> runs;
    for (const TargetRun& run : requests.runs) {
        RunScore score;
        score.tokens = run.count;
        for (std::size_t i = 0; i < run.count; ++i) {
            const TokenScore& token = tokens.at(firstOf[run.sequence] + run.first + i);
            score.logLikelihood += token.logProbability;
            score.isGreedy = score.isGreedy && token.isGreedy;
        }
        runs.push_back(score);
    }
    return runs;
}

std::vector<TaskScore> scoreTasks(const EvaluationRequests& requests, const std::vector<RunScore>& runs,
                                  ChoiceMetric choices) {
    const std::vector<ItemRuns> byItem = runsByItem(requests);
    std::vector<Task> tasks;
    for (std::size_t i = 0; i < requests.items.size(); ++i) {
        const SuiteItem& item = requests.items[i];
        auto task = std::ranges::find(tasks, item.task, [](const Task& known) { return known.score.task; });
        if (task == tasks.end()) {
            tasks.emplace_back().score.task = item.task;
            task = std::prev(tasks.end());
        }
        ++task->score.items;
        switch (item.kind) {
            case ItemKind::Continuation:
                task->score.metric = "exact_match";
                task->values.push_back(runs[byItem[i].front()].isGreedy ? 1 : 0);
                break;
            case ItemKind::Choices:
                task->score.metric = choices == ChoiceMetric::Acc ? "acc" : "acc_norm";
                task->values.push_back(bestChoice(item, byItem[i], runs, choices) == item.answer ? 1 : 0);
                break;
            case ItemKind::Text:
                task->score.metric = "perplexity";
                for (const std::size_t run : byItem[i]) {
                    task->values.push_back(runs[run].logLikelihood / static_cast<double>(runs[run].tokens));
                    task->logLikelihood += runs[run].logLikelihood;
                    task->tokens += runs[run].tokens;
                }
        }
    }
    std::vector<TaskScore> scores;
    for (Task& task : tasks) {
        task.score.standardError = standardErrorOf(task.values);
        if (task.score.isPerplexity()) {
            task.score.value = std::exp(-task.logLikelihood / static_cast<double>(task.tokens));
            task.score.standardError *= task.score.value;
        } else {
            task.score.value = meanOf(task.values);
            for (const double value : task.values) task.score.outcomes += value > 0 ? '1' : '0';
        }
        scores.push_back(task.score);
    }
    return scores;
}

std::vector<nlohmann::ordered_json> samplesOf(const EvaluationRequests& requests, const std::vector<RunScore>& runs) {
    const std::vector<ItemRuns> byItem = runsByItem(requests);
    std::vector<nlohmann::ordered_json> lines;
    for (std::size_t i = 0; i < requests.items.size(); ++i) {
        const SuiteItem& item = requests.items[i];
        nlohmann::ordered_json line{{"task", item.task}, {"place", item.place}};
        nlohmann::ordered_json values = nlohmann::ordered_json::array(), greedy = values, tokens = values;
        for (const std::size_t run : byItem[i]) {
            values.push_back(runs[run].logLikelihood);
            greedy.push_back(runs[run].isGreedy);
            tokens.push_back(runs[run].tokens);
        }
        const bool isOne = item.kind == ItemKind::Continuation;
        line["loglikelihood"] = isOne ? values.front() : values;
        line["is_greedy"] = isOne ? greedy.front() : greedy;
        line["tokens"] = isOne ? tokens.front() : tokens;
        if (item.kind == ItemKind::Choices) {
            line["answer"] = item.answer;
            for (const auto& [name, metric] :
                 {std::pair("acc", ChoiceMetric::Acc), std::pair("acc_norm", ChoiceMetric::AccNorm)})
                line[name] = bestChoice(item, byItem[i], runs, metric) == item.answer ? 1 : 0;
        }
        lines.push_back(std::move(line));
    }
    return lines;
}

}  // namespace aimerge
