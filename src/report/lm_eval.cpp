#include "aimerge/report/lm_eval.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/python_json.h"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <set>

namespace aimerge {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

/// The metric of a task that its published scores are in, as lm-eval names it: metric and filter.
struct TaskMetric {
    std::string_view task, metric;
};
constexpr std::array kTaskMetrics{
    TaskMetric{"humaneval", "pass@1,create_test"},
    TaskMetric{"mbpp", "pass_at_1,extract_code"},
    TaskMetric{"mbpp", "pass_at_1,none"},
    TaskMetric{"mmlu", "acc,none"},
    TaskMetric{"ifeval", "prompt_level_strict_acc,none"},
    TaskMetric{"gsm8k", "exact_match,strict-match"},
    TaskMetric{"minerva_math", "exact_match,none"},
    TaskMetric{"hendrycks_math", "exact_match,none"},
};

/// Tried in this order for every other task, each with filter `none` before any other.
constexpr std::array<std::string_view, 8> kMetrics{
    "acc", "exact_match", "pass@1", "pass_at_1", "prompt_level_strict_acc", "f1", "word_perplexity", "perplexity"};

/// One task of one model.
struct TaskScore {
    double value = 0;  // as lm-eval has it: a fraction, or a perplexity
    bool perplexity = false;
    std::string how;  // "acc 0-shot"
    std::size_t items = 0;
};

struct ModelScores {
    std::map<std::string, TaskScore> tasks;
    std::vector<std::string> order;  // of tasks, as they were found
    std::set<std::string> versions;  // "lm-eval 0.4.13, hf"
    std::set<std::string> unknown;   // tasks without a known metric
    std::set<std::string> broken;    // tasks whose score is NaN or infinite
    bool partial = false;            // a run with --limit
};

std::optional<std::string> metricOf(const std::string& task, const ordered_json& results) {
    const auto has = [&results](const std::string& key) { return results.contains(key) && results.at(key).is_number(); };
    for (const TaskMetric& known : kTaskMetrics)
        if (const std::string metric(known.metric); known.task == task && has(metric)) return metric;
    for (const std::string_view metric : kMetrics) {
        if (const std::string plain = fmt::format("{},none", metric); has(plain)) return plain;
        for (const auto& [key, value] : results.items())
            if (key.starts_with(fmt::format("{},", metric)) && value.is_number()) return key;
    }
    return std::nullopt;
}

/// Metrics of lm-eval 0.3 have no filter: "acc", where 0.4 writes "acc,none".
void refuseOldResults(const fs::path& file, const ordered_json& results) {
    for (const auto& [task, metrics] : results.items()) {
        const bool hasFilter = std::ranges::any_of(
            metrics.items(), [](const auto& metric) { return metric.key().find(',') != std::string::npos; });
        for (const auto& [metric, value] : metrics.items())
            if (!hasFilter && value.is_number())
                throw InputError(
                    "{}: results of lm-eval 0.3: task {} has the metric '{}', which lm-eval 0.4 writes as '{},none'; score "
                    "this "
                    "model again with lm-eval 0.4",
                    file.string(), task, metric, metric);
    }
}

std::string howScored(const std::string& metric, const ordered_json& shots) {
    const std::size_t comma = metric.find(',');
    const std::string filter = metric.substr(comma + 1);
    const std::string name = metric.substr(0, comma) + (filter == "none" ? "" : " (" + filter + ")");
    return shots.is_number_integer() ? fmt::format("{} {}-shot", name, shots.get<int>()) : name;
}

/// The names in the report: the three tasks over the problems of MATH have one.
std::string benchmarkName(const std::string& task) {
    return task == "minerva_math" || task == "hendrycks_math" ? "math" : task;
}

/// Items that a task was scored on, of a group those of its parts; 0 where lm-eval does not say it.
std::size_t itemsOf(const std::string& task, const ordered_json& counts, const ordered_json& groups) {
    if (counts.contains(task)) return counts.at(task).value("effective", std::size_t{0});
    std::size_t sum = 0;
    for (const auto& part : groups.value(task, ordered_json::array())) {
        const std::size_t items = itemsOf(part.get<std::string>(), counts, groups);
        if (items == 0) return 0;
        sum += items;
    }
    return sum;
}

void addTask(ModelScores& scores, const std::string& task, const ordered_json& results, const ordered_json& shots,
             std::size_t items) {
    const std::optional<std::string> metric = metricOf(task, results);
    if (!metric) {
        scores.unknown.insert(task);
        return;
    }
    const double value = results.at(*metric).get<double>();
    if (!std::isfinite(value)) {
        scores.broken.insert(task);
        return;
    }
    const bool perplexity = isPerplexity(metric->substr(0, metric->find(',')));
    const std::string name = benchmarkName(task) + (perplexity ? ":ppl" : "");
    const std::string how = (name == task ? "" : task + " ") + howScored(*metric, shots);
    if (!scores.tasks.contains(name)) scores.order.push_back(name);
    scores.tasks[name] = {value, perplexity, how, items};
}

void readResults(const fs::path& file, ModelScores& scores) {
    try {
        const ordered_json json = parsePythonJson<ordered_json>(readTextFile(file));
        std::set<std::string> partsOfGroups;
        const ordered_json groups = json.value("group_subtasks", ordered_json::object());
        for (const auto& [group, parts] : groups.items())
            for (const auto& part : parts) partsOfGroups.insert(part.get<std::string>());
        refuseOldResults(file, json.at("results"));
        const ordered_json shots = json.value("n-shot", ordered_json::object());
        const ordered_json items = json.value("n-samples", ordered_json::object());
        for (const auto& [task, results] : json.at("results").items())
            if (!partsOfGroups.contains(task))
                addTask(scores, task, results, shots.value(task, ordered_json()), itemsOf(task, items, groups));
        const ordered_json config = json.value("config", ordered_json::object());
        scores.partial = scores.partial || !config.value("limit", ordered_json()).is_null();
        scores.versions.insert(
            fmt::format("lm-eval {}, {}", json.value("lm_eval_version", "?"), config.value("model", "backend unknown")));
    } catch (const nlohmann::json::exception& error) {
        throw InputError("{}: not a result file of lm-eval 0.4.x: {}; remove it and score this model again", file.string(),
                         error.what());
    }
}

/// Sorted by name, which holds the time; a folder in between is named after the model.
std::vector<fs::path> resultFiles(const fs::path& folder) {
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
        const std::string name = entry.path().filename().string();
        if (entry.is_regular_file() && name.starts_with("results_") && name.ends_with(".json"))
            files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) { return a.filename() < b.filename(); });
    return files;
}

std::map<std::string, ModelScores> readFolder(const fs::path& folder) {
    if (!fs::is_directory(folder))
        throw InputError("{}: no such folder; --lm-eval takes the one that src/tools/score_with_lm_eval.py --out wrote",
                         folder.string());
    std::map<std::string, ModelScores> models;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        if (!entry.is_directory()) continue;
        const std::vector<fs::path> files = resultFiles(entry.path());
        for (const fs::path& file : files) readResults(file, models[entry.path().filename().string()]);
    }
    return models;
}

std::string scoredByText(const ModelScores& scores) {
    std::vector<std::string> tasks;
    for (const std::string& name : scores.order) tasks.push_back(name + " " + scores.tasks.at(name).how);
    return fmt::format("{}: {}", fmt::join(scores.versions, " and "), fmt::join(tasks, "; "));
}

/// Index of the benchmark, added with empty scores if it is new.
std::size_t benchmarkIndex(ScoreTable& table, const std::string& name) {
    for (std::size_t b = 0; b < table.benchmarks.size(); ++b)
        if (table.benchmarks[b].name == name) return b;
    table.benchmarks.push_back({name, isPerplexity(name)});
    for (ScoreRow& row : table.rows) {
        row.scores.emplace_back();
        row.items.emplace_back();
    }
    return table.benchmarks.size() - 1;
}

void checkColumns(const ScoreTable& table, const std::map<std::string, ModelScores>& models, const fs::path& folder) {
    for (const auto& [model, scores] : models)
        for (const auto& [name, task] : scores.tasks)
            for (const Benchmark& benchmark : table.benchmarks)
                if (benchmark.name == name)
                    throw InputError("{}: `{}` is scored there and is also a column of {}; remove or rename that column",
                                     folder.string(), name, table.file.string());
}

void addScores(ScoreTable& table, ScoreRow& row, const ModelScores& scores, const fs::path& folder) {
    for (const std::string& name : scores.order) {
        const TaskScore& task = scores.tasks.at(name);
        if (!task.perplexity && (task.value < 0 || task.value > 1))
            throw InputError("{}: {}: task {}: expected a score from 0 to 1, found {}", folder.string(), row.model, name,
                             task.value);
        const std::size_t benchmark = benchmarkIndex(table, name);
        row.scores[benchmark] = task.perplexity ? task.value : task.value * 100;
        row.items[benchmark].count = task.items;
    }
    row.scoredBy += (row.scoredBy.empty() ? "" : "; ") + scoredByText(scores);
}

}  // namespace

std::vector<std::string> addLmEvalScores(ScoreTable& table, const fs::path& folder) {
    std::map<std::string, ModelScores> models = readFolder(folder);
    checkColumns(table, models, folder);
    std::vector<std::string> notices, without, partial, broken;
    std::set<std::string> unknown;
    std::size_t joined = 0;
    for (std::size_t i = 0; i < table.rows.size(); ++i) {
        ScoreRow& row = table.rows[i];
        const auto found = models.find(row.model);
        if (found == models.end()) {
            without.push_back(row.model);
            continue;
        }
        addScores(table, row, found->second, folder);
        if (found->second.partial) partial.push_back(row.model);
        for (const std::string& task : found->second.broken) broken.push_back(row.model + " " + task);
        unknown.insert(found->second.unknown.begin(), found->second.unknown.end());
        models.erase(found);
        ++joined;
    }
    if (joined == 0)
        throw InputError("{}: no folder in it has results of a model of {}; expected {}/{}/**/results_*.json",
                         folder.string(), table.file.string(), folder.string(),
                         table.rows.empty() ? "MODEL" : table.rows.front().model);
    const auto notice = [&notices](const auto& names, std::string_view what) {
        if (!names.empty()) notices.push_back(fmt::format("{}: {}", what, fmt::join(names, ", ")));
    };
    std::vector<std::string> strangers;
    for (const auto& [model, scores] : models) strangers.push_back(model);
    notice(without, "no results of lm-eval for");
    notice(strangers, "results of lm-eval for models that are not in the table, left out");
    notice(unknown, "tasks of lm-eval without a metric that is known here, left out");
    notice(broken, "scores of lm-eval that are NaN or infinite, and count as missing");
    notice(partial, "scored by lm-eval on part of the items only (--limit)");
    return notices;
}

}  // namespace aimerge
