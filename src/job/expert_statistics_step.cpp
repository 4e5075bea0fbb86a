#include "job/expert_statistics_step.h"

#include "job/plan_step.h"
#include "job/statistics_step.h"

#include "aimerge/calibration/featcal_cost.h"
#include "aimerge/calibration/gradient_memory.h"
#include "aimerge/checkpoint/forward_identity.h"
#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/revision.h"
#include "aimerge/core/size_text.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/phase.h"
#include "aimerge/job/command_line.h"
#include "aimerge/merge/adapted_weights.h"
#include "aimerge/merge/resolve_parameters.h"
#include "aimerge/output/job_lock.h"
#include "aimerge/torch/torch_library.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <thread>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

const char* nameOf(ExpertStatistic kind) {
    if (kind == ExpertStatistic::Sensitivity) return "sensitivity";
    return kind == ExpertStatistic::Fisher ? "fisher" : "gram";
}

/// One expert's statistics in the cache.
struct Measurement {
    const Checkpoint& expert;
    const CalibrationConfig& calibration;
    ExpertStatistic kind;
};

/// Everything that fixes the result, apart from the number of threads (architecture.md, "bits").
std::string cacheKey(const Measurement& measurement, const TokenBlocks& blocks, int threads, const std::string& device) {
    Hasher hasher;
    hasher.updateField(fmt::format("{} {}", nameOf(measurement.kind), revision::kExpertStatistics));
    hasher.updateField(contentDigestOf(measurement.expert, threads));
    hasher.updateField(digestOf(forwardIdentity(measurement.expert.config())).hex()).updateField(digestOf(blocks).hex());
    hasher.updateField(torchName(measurement.calibration.dtype));
    hasher.updateField(std::to_string(measurement.calibration.microBatch)).updateField(device);
    return hasher.digest().hex();
}

/// Collective. Runs the expert over the blocks. @param folder on rank 0
void measureInto(World& world, const JobOptions& options, const Measurement& measurement, const TokenBlocks& rootBlocks,
                 const std::string& folder) {
    const TokenBlocks blocks = broadcastBlocks(world, rootBlocks);
    PlanSettings settings = planSettings(world, options, {blocks.blocks, blocks.length, &measurement.calibration});
    settings.stages = 0;
    settings.replicas = 1;  // stages work one after another
    const Plan plan = makePlan(measurement.expert, {}, settings);
    const AdaptedWeights weights(measurement.expert);
    const CalibrationJob job{weights,
                             measurement.calibration,
                             plan,
                             blocks,
                             threadsPerRank(world, options),
                             memoryLimitBytes(options),
                             progressListener(world, options),
                             throwIfInterrupted,
                             options.computesOn};
    const fs::path target = world.broadcast(folder);
    if (!fs::is_directory(target))
        throw UsageError("{}: rank {} does not see this folder; set AIMERGE_CACHE_DIR to a disk that all machines share",
                         target.string(), world.rank());
    Phase phase("measure");
    if (measurement.kind == ExpertStatistic::Fisher)
        measureFisherWithTorch(world, job, target);
    else if (measurement.kind == ExpertStatistic::Sensitivity)
        measureSensitivityWithTorch(world, job, target);
    else
        measureGramsWithTorch(world, job, target);
    if (world.isRoot()) phase.addTokens(static_cast<std::uint64_t>(blocks.blocks * blocks.length));
    phase.lookAtMemoryOf(options.computesOn);
}

std::uint64_t squared(std::int64_t value) {
    return static_cast<std::uint64_t>(value * value);
}

/// Bytes that one expert's statistics take on disk, and in memory beside weights and activations of one layer; how often
/// all blocks go through the model.
struct StatisticSize {
    std::uint64_t disk = 0, memory = 0;
    std::int64_t rounds = 1;
};

/// @param ranks that share the memory
StatisticSize sizeOf(const Measurement& measurement, std::int64_t blocks, std::int64_t blockLength, int ranks,
                     std::uint64_t memoryLimit) {
    const ModelConfig& config = measurement.expert.modelConfig();
    const CalibrationConfig& calibration = measurement.calibration;
    const auto length = static_cast<std::uint64_t>(blockLength);
    const std::uint64_t state = length * static_cast<std::uint64_t>(config.hiddenSize) * bytesPerElement(calibration.dtype);
    if (measurement.kind != ExpertStatistic::InputGram) {
        std::uint64_t elements = 0;
        for (const TensorInfo& tensor : measurement.expert.tensors())
            elements += static_cast<std::uint64_t>(tensor.elements());
        const std::int64_t layers = std::max<std::int64_t>(config.layers, 1);
        const auto stages = static_cast<int>(std::clamp<std::int64_t>(ranks, 1, layers));
        const GradientMemory memory =
            gradientMemory(config, (layers + stages - 1) / stages, stages, blockLength, calibration.dtype, memoryLimit);
        const std::uint64_t kept =
            memory.weights + memory.keptActivationBytes(config.layers, config, blockLength, calibration.dtype);
        return {elements * sizeof(float), memory.keepsWeights() ? memory.always() + kept : memory.streamed(),
                (memory.layers + memory.layersAtOnce() - 1) / memory.layersAtOnce()};
    }
    std::int64_t widest = config.hiddenSize;
    std::uint64_t ofLayer = 0;
    for (const FeatcalGroup& group : featcalGroups(config)) {
        widest = std::max(widest, group.inputs);
        ofLayer += squared(group.inputs);
    }
    return {(ofLayer * static_cast<std::uint64_t>(config.layers) + squared(config.hiddenSize)) * sizeof(float),
            ofLayer * sizeof(double) + squared(widest) * sizeof(float) + state * static_cast<std::uint64_t>(blocks)};
}

/// @throws UsageError
void requireRoom(const Measurement& measurement, const TokenBlocks& blocks, const fs::path& cache, std::uint64_t memoryLimit,
                 int ranks) {
    const StatisticSize size = sizeOf(measurement, blocks.blocks, blocks.length, ranks, memoryLimit);
    const std::uint64_t free = freeDiskBytes(cache);
    if (size.disk > free)
        throw UsageError("{}: {} of {} needs {}, the disk has {} free; set AIMERGE_CACHE_DIR to another one", cache.string(),
                         nameOf(measurement.kind), measurement.expert.name(), formatBytes(size.disk), formatBytes(free));
    if (memoryLimit > 0 && size.memory > memoryLimit)
        throw UsageError("--memory-limit {} is too small: measuring {} of {} takes {} beside one layer{}",
                         formatBytes(memoryLimit), nameOf(measurement.kind), measurement.expert.name(),
                         formatBytes(size.memory),
                         measurement.kind == ExpertStatistic::InputGram ? "; fewer sequences take less" : "");
}

/// Collective. Waits while another job has the lock; all ranks look in turn, so that none waits for a message for long.
/// @return on rank 0 the lock; nothing elsewhere, or when the folder is there by then
std::optional<JobLock> lockUnlessMade(World& world, const fs::path& folder) {
    constexpr auto kBetweenLooks = std::chrono::seconds(1);
    const std::string path = folder.string() + ".lock";
    for (bool isFirst = true;; isFirst = false) {
        const bool isMissing = world.isRoot() && !fs::exists(folder);
        std::optional<JobLock> lock = isMissing ? JobLock::tryAcquire(path, commandLine()) : std::nullopt;
        if (!world.any(isMissing && !lock)) return lock;
        if (isFirst && world.isRoot())
            spdlog::info("waiting for the job that measures the same: {}", JobLock::holderOf(path));
        throwIfInterrupted();
        std::this_thread::sleep_for(kBetweenLooks);
    }
}

/// Collective. @return the folder with the expert's statistics, on every rank
fs::path provide(World& world, const JobOptions& options, const Measurement& measurement) {
    TokenBlocks blocks;
    fs::path folder, partial;
    if (world.isRoot()) {
        const int threads = threadsPerRank(world, options);
        blocks = loadTokenBlocks(measurement.calibration, measurement.expert);
        const fs::path cache = fs::absolute(environment::cacheDirectory() / "expert-statistics");
        folder = cache / cacheKey(measurement, blocks, threads, options.computesOn.name);
        if (!fs::exists(folder)) {
            requireRoom(measurement, blocks, cache, memoryLimitBytes(options), world.size());
            std::error_code error;
            fs::create_directories(cache, error);
            if (error)
                throw RuntimeFault(
                    "{}: the folder cannot be made: {}; AIMERGE_CACHE_DIR names another, which all ranks must see",
                    cache.string(), error.message());
        }
    }
    const std::optional<JobLock> lock = lockUnlessMade(world, folder);
    bool isMissing = false;
    if (world.isRoot()) {
        isMissing = !fs::exists(folder);  // another job may have finished it before this one had the lock
        if (isMissing) {
            partial = folder.string() + ".partial";
            fs::remove_all(partial);
            fs::create_directory(partial);
            spdlog::info("measuring {} of {} over {} token blocks of {} tokens", nameOf(measurement.kind),
                         measurement.expert.name(), blocks.blocks, blocks.length);
        } else {
            spdlog::info("{} of {} reused from {}: the model and the tokens are the same", nameOf(measurement.kind),
                         measurement.expert.name(), folder.string());
        }
    }
    if (world.any(isMissing)) {
        measureInto(world, options, measurement, blocks, partial.string());
        if (world.isRoot()) {
            fs::rename(partial, folder);
            syncDirectory(folder.parent_path());
        }
    }
    return world.broadcast(folder.string());
}

Measurement sensitivityOf(const Checkpoint& base, const CalibrationConfig& calibration) {
    return {base, calibration, ExpertStatistic::Sensitivity};
}

/// @param what is measured, `size` all that it takes
std::string measurementLine(const std::string& what, const StatisticSize& size) {
    return fmt::format("measured {}, unless cached: {} in {}, about {} of memory beside one layer{}\n", what,
                       formatBytes(size.disk), (environment::cacheDirectory() / "expert-statistics").string(),
                       formatBytes(size.memory),
                       size.rounds > 1 ? fmt::format(", in {} rounds for the memory limit", size.rounds) : "");
}

StatisticSize plannedSize(const Measurement& measurement, const PlanSettings& settings) {
    const CalibrationSize calibration = calibrationSize(measurement.calibration, measurement.expert);
    return sizeOf(measurement, calibration.blocks, calibration.blockLength, settings.ranks, settings.memoryLimit);
}

/// Says which log it is: by its first block, which has its checksum (logs of other programs have none), size and time.
std::string keyOfLog(const fs::path& path) {
    const File file = File::openForReading(path);
    std::string begin(std::min<std::uint64_t>(file.size(), 512), '\0');
    file.readAt(0, std::as_writable_bytes(std::span(begin)));
    Hasher hasher;
    hasher.updateField(begin).updateField(std::to_string(file.size()));
    hasher.updateField(std::to_string(fs::last_write_time(path).time_since_epoch().count()));
    return hasher.digest().hex();
}

/// What is to be measured of experts, by the model's number in ModelSet::models. A model that several slices name takes the
/// first calibration that an entry of it has.
std::map<std::size_t, Measurement> measurementsOf(const MergeJob& job) {
    const MethodInfo& method = job.method->info();
    std::map<std::size_t, const ModelEntry*> entries;
    if (method.needs == ExpertStatistic::None) return {};
    for (std::size_t s = 0; s < job.models.slices.size(); ++s) {
        const ModelSlice& slice = job.models.slices[s];
        if (job.models.modules[slice.module].isCopied) continue;
        const std::vector<ModelEntry>& sources = job.config.slices[s].sources;
        for (const std::size_t input : methodInputs(method, slice)) {
            const ModelEntry*& entry = entries[slice.inputs[input].model];
            if (input < sources.size() && !(entry && entry->calibration)) entry = &sources[input];
        }
    }

    std::map<std::size_t, Measurement> measurements;
    for (const auto& [model, entry] : entries) {
        const CalibrationConfig* calibration = expertCalibration(job.config, entry);
        if (!calibration)
            throw UsageError(
                "{}: {} measures every expert on a text: give 'calibration' with a text 'corpus' or ready 'token_ids' at "
                "the top of the file, or in the entry of {}",
                job.config.methodMark.text(), job.config.method, job.models.models[model].name());
        measurements.insert({model, {job.models.models[model], *calibration, method.needs}});
    }
    return measurements;
}

}  // namespace

void requireExpertCalibration(const MergeJob& job) {
    const bool isFisher = job.method->info().needs == ExpertStatistic::Fisher;
    for (const auto& [model, measurement] : measurementsOf(job)) {
        const std::vector<Stack>& stacks = measurement.expert.architecture().stacks();
        if (stacks.size() > 1)
            throw InputError(
                "{}: has a {} besides its {}, and no text goes through it; {} measures every matrix of a model. Merge by a "
                "method that measures no expert",
                job.models.models[model].name(), stacks[1].name, stacks[0].name, job.config.method);
        if (isFisher && job.vocabulary && !job.vocabulary->maps.at(model).isIdentity())
            throw UsageError(
                "{}: {} weighs the rows of the embedding by what was measured on each model's own; the vocabulary of {} "
                "differs from the output's. Merge models of one vocabulary, or by another method",
                job.config.methodMark.text(), job.config.method, job.models.models[model].name());
    }
}

std::string expertStatisticsLines(const MergeJob& job, const PlanSettings& settings) {
    StatisticSize total;
    std::string what;
    const auto add = [&](const Measurement& measurement) {
        const StatisticSize size = plannedSize(measurement, settings);
        total.disk += size.disk;
        total.memory = std::max(total.memory, size.memory);
        total.rounds = std::max(total.rounds, size.rounds);
    };
    const std::map<std::size_t, Measurement> measurements = measurementsOf(job);
    for (const auto& [model, measurement] : measurements) add(measurement);
    if (!measurements.empty()) what = fmt::format("{} of {} models", nameOf(job.method->info().needs), measurements.size());
    if (job.config.aim && job.config.aim->usesSensitivity() && job.config.aim->statisticsPath.empty()) {
        add(sensitivityOf(job.base(), job.config.aim->calibration));
        if (!what.empty()) what += ", ";
        what += "sensitivity of the base";
    }
    std::string lines;
    if (job.config.aim && job.config.aim->usesExperts())
        lines = fmt::format("calibrated {} experts one after the other, unless cached: each as the base would be\n",
                            job.experts().size());
    return what.empty() ? lines : lines + measurementLine(what, total);
}

void refuseSensitivity(const AimConfig& aim) {
    if (aim.usesSensitivity())
        throw UsageError("{}: statistic {} is measured on a base that every rank must see; use --io direct", aim.mark.text(),
                         statisticName(aim.statistic));
}

std::string sensitivityLine(const Checkpoint& base, const CalibrationConfig& calibration, const PlanSettings& settings) {
    return measurementLine("sensitivity of the base", plannedSize(sensitivityOf(base, calibration), settings));
}

ExpertStatistics provideSensitivity(World& world, const JobOptions& options, const Checkpoint& base,
                                    const CalibrationConfig& calibration) {
    return ExpertStatistics::open(provide(world, options, sensitivityOf(base, calibration)), base.name());
}

ProvidedStatistics provideExpertStatistics(World& world, const JobOptions& options, const MergeJob& job) {
    ProvidedStatistics provided;
    provided.experts.resize(job.models.models.size());
    for (const auto& [model, measurement] : measurementsOf(job)) {
        const fs::path folder = provide(world, options, measurement);
        provided.experts[model] = ExpertStatistics::open(folder, measurement.expert.name());
        provided.keys += folder.filename().string() + "\n";
    }
    if (!job.config.aim || !job.config.aim->usesSensitivity()) return provided;
    if (const fs::path log = job.config.aim->statisticsPath; !log.empty()) {
        provided.sensitivity = ExpertStatistics::ofLog(log, job.base().name());
        provided.keys += world.broadcast(world.isRoot() ? keyOfLog(log) : std::string()) + "\n";
    } else {
        const fs::path folder = provide(world, options, sensitivityOf(job.base(), job.config.aim->calibration));
        provided.sensitivity = ExpertStatistics::open(folder, job.base().name());
        provided.keys += folder.filename().string() + "\n";
    }
    return provided;
}

}  // namespace aimerge
