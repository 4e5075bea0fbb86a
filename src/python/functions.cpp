#include "python/functions.h"

#include "aimerge/core/size_text.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/config_text.h"
#include "aimerge/job/failure.h"
#include "aimerge/job/held_merge.h"
#include "aimerge/job/job.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/output/verify.h"
#include "aimerge/statistics/statistics_log.h"

#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

namespace aimerge {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr std::int64_t kMostThreads = 1024, kMostBlockLength = 1 << 20;

/// A call of one of the functions.
struct Call {
    World& world;
    JobOptions options;
    const json& request;
};

std::int64_t integerIn(const json& request, const char* key, std::int64_t smallest, std::int64_t largest) {
    const json& value = request.at(key);
    if (!value.is_number_integer() || value < smallest || value > largest)
        throw UsageError("{}={}: expected a whole number from {} to {}", key, value.dump(), smallest, largest);
    return value.get<std::int64_t>();
}

std::string choiceIn(const json& request, const char* key, std::initializer_list<const char*> choices) {
    const json& value = request.at(key);
    if (std::ranges::none_of(choices, [&](const char* choice) { return value == choice; }))
        throw UsageError("{}={}: expected one of {}", key, value.dump(), fmt::join(choices, ", "));
    return value.get<std::string>();
}

std::uint64_t sizeIn(const json& request, const char* key) {
    const json& value = request.at(key);
    if (value.is_string()) return parseSize(value.get<std::string>());
    if (!value.is_number_unsigned())
        throw UsageError("{}={}: expected bytes as a whole number, or a text such as '24GB'", key, value.dump());
    return value.get<std::uint64_t>();
}

std::vector<double> omegasIn(const json& request) {
    const json& omegas = request.at("omega");
    if (omegas.empty()) throw UsageError("omega is missing: how much of the change the most active channels keep");
    for (const json& omega : omegas)
        if (!omega.is_number()) throw UsageError("omega={}: expected a number from 0 to 1", omega.dump());
    return omegas.get<std::vector<double>>();
}

/// Keys that are absent or null stand for the default.
bool has(const json& request, const char* key) {
    return request.contains(key) && !request[key].is_null();
}

JobOptions optionsOf(const json& request, const ProgressListener& progress) {
    JobOptions options;
    options.out = request.value("out", "");
    if (has(request, "device")) options.device = choiceIn(request, "device", {"auto", "cpu", "cuda"});
    if (has(request, "threads")) options.threads = static_cast<int>(integerIn(request, "threads", 1, kMostThreads));
    if (has(request, "memory_limit")) options.memoryLimit = sizeIn(request, "memory_limit");
    if (has(request, "max_shard_size")) options.maxShardSize = sizeIn(request, "max_shard_size");
    if (has(request, "set")) options.overrides = request["set"].get<std::vector<std::string>>();
    options.dryRun = request.value("dry_run", false);
    options.strict = request.value("strict", false);
    options.allowsCrimes = request.value("allow_crimes", false);
    options.overwrite = request.value("overwrite", false);
    options.verifyAfter = request.value("verify_after", false);
    options.progress = progress;
    options.show = [](std::string_view text) {
        while (text.ends_with('\n')) text.remove_suffix(1);
        spdlog::info("{}", text);
    };
    return options;
}

ConfigText configOf(const json& request) {
    const json& config = request.at("config");
    if (config.contains("file")) {
        const auto file = config["file"].get<std::string>();
        return {readMergeConfigText(file), file, false, ""};
    }
    return {config.at("text").get<std::string>(), "config", false, ""};
}

ordered_json jsonOf(const MergeResult& result) {
    ordered_json checkpoints = ordered_json::array();
    for (const MergedCheckpoint& checkpoint : result.checkpoints) {
        ordered_json entry{{"folder", checkpoint.folder.string()}, {"omega", nullptr}};
        if (checkpoint.omega) entry["omega"] = *checkpoint.omega;
        checkpoints.push_back(std::move(entry));
    }
    ordered_json coverage;
    if (result.coverage) coverage = ordered_json::parse(*result.coverage);
    return {{"checkpoints", checkpoints}, {"bytes", result.bytes}, {"seconds", result.seconds}, {"coverage", coverage}};
}

void runMerge(Call& call, FunctionResult& result) {
    result.json = jsonOf(merge(call.world, call.options, configOf(call.request)));
}

void runRelax(Call& call, FunctionResult& result) {
    AimArguments aim;
    aim.omegas = omegasIn(call.request);
    aim.corpus = call.request.at("corpus").get<std::string>();
    aim.preset = call.request.at("preset").get<std::string>();
    aim.statistics = call.request.at("statistics").get<std::string>();
    aim.textKeys = call.request.at("text_key").get<std::vector<std::string>>();
    const std::string text =
        relaxConfigText(call.request.at("merged").get<std::string>(), call.request.at("base").get<std::string>(), aim);
    result.json = jsonOf(merge(call.world, call.options, {text, "aimerge relax", true, remarkOn(aim)}));
}

void runPlan(Call& call, FunctionResult& result) {
    PlanRequest request;
    if (has(call.request, "ranks")) request.ranks = static_cast<int>(integerIn(call.request, "ranks", 1, 65536));
    request.hardware = call.request.at("hardware").get<std::string>();
    ordered_json documents = ordered_json::array();
    std::string tables;
    for (PlannedMerge& planned : plan(call.world, call.options, configOf(call.request), request)) {
        documents.push_back(std::move(planned.json));
        tables += planned.table + "\n";
    }
    result.json = {{"documents", documents}, {"table", tables}};
}

void runCalibrate(Call& call, FunctionResult& result) {
    const std::optional<CalibrationSource> source = calibrate(call.world, call.options, configOf(call.request));
    result.json["source"] = nullptr;
    if (!source) return;
    static const std::map<CalibrationSource, const char*> kNames{{CalibrationSource::Measured, "measured"},
                                                                 {CalibrationSource::Cached, "cached"},
                                                                 {CalibrationSource::Present, "present"}};
    result.json["source"] = kNames.at(*source);
}

EvaluationSettings evaluationIn(const json& request) {
    EvaluationSettings settings;
    settings.suites = request.at("suites").get<std::vector<std::string>>();
    if (settings.suites.empty()) throw UsageError("suites is empty: name at least one file of items to score");
    settings.computeDtype = choiceIn(request, "dtype", {"float32", "bfloat16"}) == "float32" ? Dtype::F32 : Dtype::BF16;
    settings.choices =
        choiceIn(request, "multiple_choice", {"acc", "acc_norm"}) == "acc" ? ChoiceMetric::Acc : ChoiceMetric::AccNorm;
    settings.blockLength = integerIn(request, "block_length", 2, kMostBlockLength);
    return settings;
}

ordered_json jsonOf(EvaluationOutcome outcome, const json& request) {
    ordered_json tasks = ordered_json::array();
    for (const TaskScore& task : outcome.tasks)
        tasks.push_back({{"task", task.task},
                         {"metric", task.metric},
                         {"score", task.value},
                         {"stderr", task.standardError},
                         {"items", task.items}});
    ordered_json scores = {{"tasks", tasks}, {"tokens", outcome.tokens}, {"seconds", outcome.seconds}};
    scores["samples"] = request.at("samples").get<bool>() ? ordered_json(std::move(outcome.samples)) : ordered_json::array();
    return scores;
}

void runEvaluate(Call& call, FunctionResult& result) {
    const auto model = call.request.at("model").get<std::string>();
    result.json = jsonOf(evaluate(call.world, call.options, model, evaluationIn(call.request)), call.request);
}

void runSweep(Call& call, FunctionResult& result) {
    const SweepConfig config = openSweep(call.world, call.options, configOf(call.request));
    const SweepOutcome outcome =
        sweep(call.world, call.options, config, call.request.at("only").get<std::vector<std::string>>());
    result.json = {
        {"folder", config.directory}, {"table", outcome.table}, {"tried", outcome.tried}, {"failed", outcome.failed}};
    requireNoFailedPoints(config, outcome, call.options.dryRun);
}

void runVerify(Call& call, FunctionResult& result) {
    const auto folder = call.request.at("folder").get<std::string>();
    const VerifyReport report = verify(folder, threadsPerRank(call.world, call.options));
    ordered_json findings = ordered_json::array();
    for (const Finding& finding : report.findings) {
        ordered_json entry{{"file", finding.file}, {"tensor", finding.tensor}, {"text", finding.text}, {"bytes", nullptr}};
        if (finding.bytes) entry["bytes"] = {finding.bytes->begin, finding.bytes->end};
        findings.push_back(std::move(entry));
    }
    result.json = {{"files", report.files},
                   {"tensors", report.tensors},
                   {"bytes", report.bytes},
                   {"findings", findings},
                   {"notices", report.notices}};
    requireWhole(folder, report);
}

void runInspect(Call& call, FunctionResult& result) {
    result.json = describe(call.request.at("path").get<std::string>());
}

/// The origin and the modules of describe(), with the values of each: mean |x|, rms, max |x|, module by module in order.
void runStatistics(Call& call, FunctionResult& result) {
    std::filesystem::path file = call.request.at("path").get<std::string>();
    if (std::filesystem::is_directory(file)) file /= kStatisticsLogName;
    const StatisticsLog log = readStatisticsLog(file);
    result.json["origin"] = describe(file.string()).at("statistics").at("origin");
    result.json["modules"] = ordered_json::array();
    for (const auto& [name, module] : log.modules) {
        for (const std::vector<float>* values : {&module.meanAbs, &module.rms, &module.maxAbs})
            result.values.insert(result.values.end(), values->begin(), values->end());
        result.json["modules"].push_back({{"module", name},
                                          {"channels", module.channels()},
                                          {"experts", module.experts},
                                          {"tokens", module.tokens},
                                          {"expert_tokens", module.expertTokens},
                                          {"input_axis", module.inputAxis}});
    }
}

/// A merge in memory, for several calls. One works on it at a time.
struct Held {
    Held(JobOptions options, ConfigText config) : merge(world, std::move(options), std::move(config)) {}

    std::mutex mutex;
    World world = World::alone();
    HeldMerge merge;
};

std::mutex heldMutex;
std::map<std::int64_t, std::shared_ptr<Held>> heldMerges;  // by number
std::int64_t lastHeld = 0;

/// The merge that a request names by its number, for as long as it is worked on.
class HeldByRequest {
public:
    explicit HeldByRequest(const Call& call)
        : held_(find(call.request.at("held").get<std::int64_t>())), lock_(held_->mutex) {
        held_->merge.reportTo(call.options.progress);
    }
    ~HeldByRequest() { held_->merge.reportTo({}); }
    HeldByRequest(const HeldByRequest&) = delete;
    HeldMerge* operator->() const { return &held_->merge; }

private:
    static std::shared_ptr<Held> find(std::int64_t number) {
        const std::lock_guard lock(heldMutex);
        const auto found = heldMerges.find(number);
        if (found == heldMerges.end()) throw UsageError("this merge in memory has been closed");
        return found->second;
    }

    std::shared_ptr<Held> held_;
    std::unique_lock<std::mutex> lock_;
};

ordered_json tensorsOf(const HeldMerge& merge) {
    ordered_json tensors = ordered_json::array();
    for (const OutputTensor& tensor : merge.tensors())
        tensors.push_back({{"name", tensor.name}, {"dtype", torchName(tensor.dtype)}, {"shape", tensor.shape}});
    return tensors;
}

void runHold(Call& call, FunctionResult& result) {
    const auto held = std::make_shared<Held>(call.options, configOf(call.request));
    held->merge.reportTo({});  // this call's
    const std::lock_guard lock(heldMutex);
    heldMerges[++lastHeld] = held;
    result.json = {{"held", lastHeld}, {"tensors", tensorsOf(held->merge)}};
}

void runHeldSet(Call& call, FunctionResult& result) {
    const HeldByRequest held(call);
    held->set(call.request.at("overrides").get<std::vector<std::string>>());
    result.json = {{"tensors", tensorsOf(*held.operator->())}};
}

void runHeldTensor(Call& call, FunctionResult& result) {
    const HeldByRequest held(call);
    const auto name = call.request.at("tensor").get<std::string>();
    result.bytes = held->tensor(name);
    result.json = {{"merged", held->mergedTensors()}};
}

void runHeldEvaluate(Call& call, FunctionResult& result) {
    const HeldByRequest held(call);
    result.json = jsonOf(held->evaluate(evaluationIn(call.request)), call.request);
}

void runHeldSave(Call& call, FunctionResult& result) {
    const HeldByRequest held(call);
    result.json = jsonOf(held->save(call.options.out, call.options.overwrite));
}

void runRelease(Call& call, FunctionResult& /*result*/) {
    const std::lock_guard lock(heldMutex);
    heldMerges.erase(call.request.at("held").get<std::int64_t>());
}

struct Function {
    void (*run)(Call& call, FunctionResult& result);
    bool computes = false;  // on a device
};

const std::map<std::string, Function> kFunctions{{"merge", {runMerge, true}},
                                                 {"relax", {runRelax, true}},
                                                 {"plan", {runPlan, true}},
                                                 {"calibrate", {runCalibrate, true}},
                                                 {"evaluate", {runEvaluate, true}},
                                                 {"sweep", {runSweep, true}},
                                                 {"verify", {runVerify}},
                                                 {"inspect", {runInspect}},
                                                 {"statistics", {runStatistics}},
                                                 {"hold", {runHold, true}},
                                                 {"held_set", {runHeldSet}},
                                                 {"held_tensor", {runHeldTensor}},
                                                 {"held_evaluate", {runHeldEvaluate}},
                                                 {"held_save", {runHeldSave}},
                                                 {"release", {runRelease}}};

}  // namespace

void runFunction(const std::string& name, const json& request, const ProgressListener& progress, FunctionResult& result) {
    World world = World::alone();
    Call call{world, optionsOf(request, progress), request};
    const Function& function = kFunctions.at(name);
    if (function.computes) call.options.computesOn = chooseDevice(world, call.options);
    function.run(call, result);
}

}  // namespace aimerge
