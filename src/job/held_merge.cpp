#include "aimerge/job/held_merge.h"

#include "job/evaluation_step.h"
#include "job/expert_statistics_step.h"
#include "job/memory_points.h"
#include "job/merge_job.h"
#include "job/merge_step.h"
#include "job/plan_step.h"
#include "job/shared_config.h"
#include "job/statistics_step.h"

#include "aimerge/core/error.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/distributed/world.h"
#include "aimerge/job/same_on_all_ranks.h"
#include "aimerge/merge/tensor_assembly.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <regex>

namespace aimerge {
namespace {

/// What an override of these paths changes are values of single tensors.
bool changesValuesAlone(const std::string& override) {
    static const std::regex paths(R"((models\.\d+\.|slices\.\d+\.(sources\.\d+\.)?)?parameters\..*|aim\.omega=.*)");
    return std::regex_match(override, paths);
}

std::vector<std::string> otherOverrides(std::vector<std::string> overrides) {
    std::erase_if(overrides, changesValuesAlone);
    return overrides;
}

void requireHeld(const MergeJob& job) {
    if (job.points.size() != 1)
        throw UsageError("{}: a merge in memory has one omega, found {}", job.config.aim->mark.text(), job.points.size());
    if (job.featcal)
        throw UsageError("{}: featcal writes its layers as it goes; merge into a folder", job.config.featcal->mark.text());
    if (job.isSequential())
        throw UsageError("{}: aim.calibration.sequential is for merges into a folder",
                         job.config.aim->calibration.mark.text());
    requireExpertCalibration(job);
}

}  // namespace

/// What a method and AIM go by besides the weights.
struct HeldStatistics {
    std::vector<StatisticsByModule> activity;  // as Activity has them
    ProvidedStatistics provided;
};

struct HeldMerge::Impl : PointStore, WeightSource {
    struct Tensor {
        TensorInfo info;
        std::shared_ptr<std::byte[]> bytes = {};  // null as long as it has not been merged
        ResolvedParameters parameters = {};       // with which it is
        std::optional<double> omega = {};
    };

    Impl(World& inWorld, JobOptions ofJob, ConfigText ofMerge)
        : world(inWorld), options(std::move(ofJob)), config(std::move(ofMerge)), threads(threadsPerRank(world, options)) {
        if (world.size() > 1) throw UsageError("a merge in memory runs on one rank, not on {}", world.size());
        open({});
    }

    void open(const std::vector<std::string>& overrides) {
        JobOptions withOverrides = options;
        withOverrides.overrides.insert(withOverrides.overrides.end(), overrides.begin(), overrides.end());
        std::vector<MergeConfig> documents = shareConfigs(world, withOverrides, config, ConfigUse::Merge);
        if (documents.size() > 1)
            throw UsageError("{}: has {} documents; a merge in memory has one", config.name, documents.size());
        MergeJob next = openMergeJob(std::move(documents.front()), options.maxShardSize);
        requireHeld(next);
        const bool isSameButForValues = job && otherOverrides(overrides) == otherOverrides(given) &&
                                        job->config.aim.has_value() == next.config.aim.has_value();
        std::optional<HeldStatistics> nextStatistics;
        if (!isSameButForValues) nextStatistics.emplace(provide(next));

        std::map<std::string, Tensor, std::less<>> nextTensors;
        for (std::size_t i = 0; i < next.tensors.size(); ++i) {
            const MatchedTensor& matched = next.tensors[i];
            const OutputTensor& output = next.outputs[i];
            Tensor& tensor = nextTensors[output.name];
            tensor.info = {.name = output.name, .dtype = output.dtype, .shape = output.shape, .bytes = {0, output.bytes()}};
            if (matched.action == MatchedTensor::Action::Merge) {
                tensor.parameters = tensorParameters(*next.method, next.config, next.models, matched);
                tensor.omega = next.points.front().omega;
                if (next.config.aim && next.config.aim->omegaByTensor) tensor.omega = tensorOmega(*next.config.aim, matched);
            }
            if (!isSameButForValues) continue;
            Tensor& before = tensors.find(output.name)->second;
            if (before.parameters == tensor.parameters && before.omega == tensor.omega) tensor.bytes = before.bytes;
        }
        modelConfigOfMerge = mergedModelConfig(next);
        job.emplace(std::move(next));
        tensors = std::move(nextTensors);
        if (nextStatistics) statistics = std::move(*nextStatistics);
        given = overrides;
    }

    HeldStatistics provide(const MergeJob& next) {
        HeldStatistics found;
        if (next.config.aim) {
            const AimConfig& aim = *next.config.aim;
            StatisticsLog log;
            if (aim.usesExperts())
                log = provideExpertsStatistics(world, options, aim, next.expertCheckpoints());
            else if (aim.statisticsPath.empty())
                log = provideStatistics(world, options, aim.calibration, next.base());
            else
                log = readGivenStatistics(aim.statisticsPath, next.base(), threads.threads());
            found.activity = activityStatistics(aim, std::move(log.modules));
            requiredCoverage(next, found.activity.front()).warn();
        }
        found.provided = provideExpertStatistics(world, options, next);
        return found;
    }

    /// Merges those of the named tensors that are not there yet.
    void mergeTensors(std::vector<std::string> names) {
        std::erase_if(names, [&](const std::string& name) { return tensors.find(name)->second.bytes != nullptr; });
        if (names.empty()) return;
        for (const std::string& name : names) {
            Tensor& tensor = tensors.find(name)->second;
            tensor.bytes = std::make_shared_for_overwrite<std::byte[]>(tensor.info.bytes.size());
        }
        MergePass pass{
            *job, names, statistics.activity, statistics.provided.experts, statistics.provided.sensitivityOrNull(), *this};
        try {
            if (names.size() == 1)
                mergeNow(pass, threads, mergesOn(options));
            else
                mergePasses(world, {&pass, 1}, threads, progressListener(world, options), mergesOn(options),
                            readAheadBytes(world, options, *job));
            if (pass.error) std::rethrow_exception(pass.error);
        } catch (...) {
            for (const std::string& name : names) tensors.find(name)->second.bytes = nullptr;
            throw;
        }
        merged += names.size();
    }

    void write(std::size_t /*point*/, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override {
        std::memcpy(tensors.find(tensor)->second.bytes.get() + offset, bytes.data(), bytes.size());
    }
    void finish(const std::string& /*tensor*/) override {}

    const std::string& name() const override { return sourceName; }
    const ModelConfig& modelConfig() const override { return modelConfigOfMerge; }
    const TensorInfo* find(std::string_view tensor) const override {
        const auto found = tensors.find(tensor);
        return found == tensors.end() ? nullptr : &found->second.info;
    }
    void read(const TensorInfo& tensor, std::uint64_t offset, std::span<std::byte> out) const override {
        std::memcpy(out.data(), tensors.find(tensor.name)->second.bytes.get() + offset, out.size());
    }

    World& world;
    JobOptions options;
    ConfigText config;
    ThreadPool threads;
    std::vector<std::string> given;  // overrides of set()
    std::optional<MergeJob> job;
    HeldStatistics statistics;
    std::map<std::string, Tensor, std::less<>> tensors;
    std::size_t merged = 0;
    std::string sourceName = "the merged model";
    ModelConfig modelConfigOfMerge;
    std::map<std::string, Evaluation> evaluations;  // by digestOf() their settings
};

HeldMerge::HeldMerge(World& world, JobOptions options, ConfigText config)
    : impl_(std::make_unique<Impl>(world, std::move(options), std::move(config))) {}

HeldMerge::~HeldMerge() = default;

void HeldMerge::set(const std::vector<std::string>& overrides) {
    impl_->open(overrides);
}

void HeldMerge::reportTo(ProgressListener listener) {
    impl_->options.progress = std::move(listener);
}

const std::vector<OutputTensor>& HeldMerge::tensors() const {
    return impl_->job->outputs;
}

std::shared_ptr<const std::byte[]> HeldMerge::tensor(const std::string& name) {
    if (!impl_->find(name)) throw UsageError("{}: there is no tensor of this name in the merged model", name);
    impl_->mergeTensors({name});
    return impl_->tensors.find(name)->second.bytes;
}

EvaluationOutcome HeldMerge::evaluate(const EvaluationSettings& settings) {
    const MergeJob& job = *impl_->job;
    if (job.config.vocabulary.source != VocabularySource::None)
        throw UsageError("{}: a model with a merged tokenizer is scored from its folder", job.config.vocabulary.mark.text());
    const Checkpoint& base = job.base();
    const std::string key = digestOf(settings) + base.tokenizerFolder().string();
    auto known = impl_->evaluations.find(key);
    if (known == impl_->evaluations.end())
        known = impl_->evaluations.emplace(key, Evaluation::prepare(impl_->world, settings, base)).first;
    const Evaluation& evaluation = known->second;
    std::vector<std::string> names;
    for (const OutputTensor& output : job.outputs) names.push_back(output.name);
    impl_->mergeTensors(std::move(names));
    const Plan plan = planEvaluation(impl_->world, impl_->options, evaluation, base);
    return outcomeOf(evaluation, scoreModel(impl_->world, impl_->options, evaluation, *impl_, plan));
}

MergeResult HeldMerge::save(const std::string& out, bool overwrite) {
    JobOptions options = impl_->options;
    options.out = out;
    options.overwrite = overwrite;
    options.overrides.insert(options.overrides.end(), impl_->given.begin(), impl_->given.end());
    return merge(impl_->world, options, impl_->config);
}

std::size_t HeldMerge::mergedTensors() const {
    return impl_->merged;
}

}  // namespace aimerge
