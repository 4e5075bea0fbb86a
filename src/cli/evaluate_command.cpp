// aimerge evaluate MODEL --suite FILE: scores of a checkpoint.

#include "cli/options.h"

#include "aimerge/core/file.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/job.h"

#include <fmt/core.h>
#include <spdlog/spdlog.h>

namespace aimerge {
namespace {

void declareEvaluate(CLI::App& app, Options& options) {
    app.add_option("model", options.subject, "Checkpoint folder, or org/name in the local hub cache")->required();
    app.add_option("--suite", options.suites,
                   "Items to score, as .jsonl, .json, .parquet, ..., or .txt for perplexity (repeatable)")
        ->required();
    app.add_option("--dtype", options.computeDtype, "Data type in which the model runs")
        ->check(CLI::IsMember({"float32", "bfloat16"}))
        ->capture_default_str();
    app.add_option("--multiple-choice", options.choiceMetric, "Metric of multiple-choice tasks")
        ->check(CLI::IsMember({"acc", "acc_norm"}))
        ->capture_default_str();
    app.add_option("--block-length", options.blockLength, "Tokens per block for perplexity")
        ->check(CLI::Range(2, 1 << 20))
        ->capture_default_str();
    app.add_option("--samples", options.samples, "Write the result of every item to this file (.jsonl)");
    app.add_flag("--json", options.json, "Print the scores as JSON");
    declareScatter(app, options);
    declareComputeOptions(app, options);
}

EvaluationSettings settingsOf(const Options& options) {
    EvaluationSettings settings;
    settings.suites = options.suites;
    settings.computeDtype = options.computeDtype == "float32" ? Dtype::F32 : Dtype::BF16;
    settings.choices = options.choiceMetric == "acc" ? ChoiceMetric::Acc : ChoiceMetric::AccNorm;
    settings.blockLength = options.blockLength;
    return settings;
}

std::string tableOf(const std::vector<TaskScore>& tasks) {
    std::string text = fmt::format("{:<24} {:<12} {:>10} {:>10} {:>7}\n", "task", "metric", "score", "stderr", "items");
    for (const TaskScore& task : tasks)
        text += fmt::format("{:<24} {:<12} {:>10.4f} {:>10.4f} {:>7}\n", task.task, task.metric, task.value,
                            task.standardError, task.items);
    return text;
}

nlohmann::ordered_json jsonOf(const Options& options, const EvaluationOutcome& outcome) {
    nlohmann::ordered_json byTask = nlohmann::ordered_json::object();
    for (const TaskScore& task : outcome.tasks)
        byTask[task.task] = {
            {"metric", task.metric}, {"score", task.value}, {"stderr", task.standardError}, {"items", task.items}};
    return {{"model", options.subject},
            {"dtype", options.computeDtype},
            {"tokens", outcome.tokens},
            {"tasks", std::move(byTask)}};
}

void writeSamples(const std::string& path, const EvaluationOutcome& outcome) {
    std::string text;
    for (const nlohmann::ordered_json& line : outcome.samples) text += line.dump() + "\n";
    writeTextFile(path, text);
}

void runEvaluate(World& world, const Options& options) {
    const EvaluationOutcome outcome = evaluate(world, options, options.subject, settingsOf(options));
    if (!world.isRoot()) return;
    if (!options.samples.empty()) writeSamples(options.samples, outcome);
    if (options.json)
        fmt::print("{}\n", jsonOf(options, outcome).dump(2));
    else
        fmt::print("{}", tableOf(outcome.tasks));
    spdlog::info("{}: {} items, {} tokens in {}, {:.0f} tokens/s", options.subject, outcome.items, outcome.tokens,
                 formatSeconds(outcome.seconds), static_cast<double>(outcome.tokens) / outcome.seconds);
}

}  // namespace

const Command kEvaluateCommand{"evaluate", "Score a checkpoint on suites of prompts and texts",
                               "aimerge evaluate merged/ --suite configs/smollm2/suites/math.jsonl --json", declareEvaluate,
                               runEvaluate};

}  // namespace aimerge
