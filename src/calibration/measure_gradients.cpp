#include "aimerge/calibration/measure_experts.h"

#include "aimerge/core/error.h"
#include "aimerge/model/gradient.h"
#include "calibration/stage_link.h"
#include "calibration/statistic_file.h"
#include "calibration/torch_threads.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

namespace aimerge {
namespace {

/// Sequences that share one reading of the layers. A tied head keeps a gradient of the whole vocabulary for each.
std::int64_t sequencesAtOnce(const ModelConfig& config) {
    return config.tieWordEmbeddings ? 1 : kMostSequencesAtOnce;
}

/// The sum of the next tokens' negative log-likelihoods.
at::Tensor languageModelLoss(const at::Tensor& logits, std::span<const std::int32_t> ids) {
    const auto next = static_cast<std::int64_t>(ids.size()) - 1;
    const at::Tensor targets = at::empty({next}, at::kLong);
    std::copy(ids.begin() + 1, ids.end(), targets.mutable_data_ptr<std::int64_t>());
    return at::cross_entropy_loss(logits.narrow(0, 0, next), targets.to(logits.device()), {}, at::Reduction::Sum);
}

/// The mean entropy of what the model expects at each position.
at::Tensor meanEntropy(const at::Tensor& logits, std::span<const std::int32_t>) {
    const at::Tensor logProbabilities = at::log_softmax(logits, -1);
    return -(logProbabilities.exp() * logProbabilities).sum(-1).mean();
}

/// What is measured of gradients.
struct GradientMeasure {
    const char* name;  // of the phase and the file
    at::Tensor (*loss)(const at::Tensor& logits, std::span<const std::int32_t> ids);
    void (*add)(at::Tensor& sum, const at::Tensor& gradient);  // both float32; what is added is not negative
};

constexpr GradientMeasure kFisher{"fisher", languageModelLoss,
                                  [](at::Tensor& sum, const at::Tensor& gradient) { sum.addcmul_(gradient, gradient); }};
constexpr GradientMeasure kSensitivity{"sensitivity", meanEntropy,
                                       [](at::Tensor& sum, const at::Tensor& gradient) { sum.add_(gradient.abs()); }};

/// Terms are positive, so that float32 loses at most a relative 2^-24 per block.
class GradientSums : public GradientObserver {
public:
    GradientSums(const CalibrationJob& job, StepNotice& notice, const GradientMeasure& measure)
        : job_(job), notice_(notice), measure_(measure) {}

    void stop() override {
        if (job_.safePoint) job_.safePoint();
        notice_.stepDone();
    }

    void observe(const std::string& parameter, const at::Tensor& gradient) override {
        at::Tensor& sum = sums_[parameter];
        if (!sum.defined()) sum = at::zeros(gradient.sizes(), gradient.options().dtype(at::kFloat));
        measure_.add(sum, gradient.to(at::kFloat));
    }

    /// Divides by the number of blocks. @throws InputError
    const std::map<std::string, at::Tensor>& means() {
        for (auto& [name, sum] : sums_) {
            sum.div_(job_.blocks.blocks);
            if (!sum.isfinite().all().item<bool>())
                throw InputError(
                    "{}: the loss's gradient with respect to {} is NaN or beyond float32; check the model's weights, or "
                    "calibrate with dtype float32",
                    job_.base.name(), name);
        }
        return sums_;
    }

private:
    const CalibrationJob& job_;
    StepNotice& notice_;
    const GradientMeasure& measure_;
    std::map<std::string, at::Tensor> sums_;
};

/// What rank 0 does.
void measureAlone(World& world, const CalibrationJob& job, const Decoder& decoder, const GradientMeasure& measure,
                  const std::filesystem::path& file) {
    const std::int64_t group = sequencesAtOnce(decoder.config());
    Progress progress(job.progress, measure.name, "blocks", static_cast<std::uint64_t>(job.blocks.blocks), 0);
    StepNotice notice(world, otherRanks(world));
    GradientSums sums(job, notice, measure);
    for (std::int64_t first = 0; first < job.blocks.blocks; first += group) {
        const std::int64_t count = std::min(group, job.blocks.blocks - first);
        const auto ids = std::span(job.blocks.ids)
                             .subspan(static_cast<std::size_t>(first * job.blocks.length),
                                      static_cast<std::size_t>(count * job.blocks.length));
        differentiate(decoder, ids, job.blocks.length, measure.loss, sums);
        progress.advance(static_cast<std::uint64_t>(count), 0);
    }
    notice.finish();
    writeStatisticFile(file, sums.means());
    progress.finish();
}

/// Collective.
void measure(World& world, const CalibrationJob& job, const GradientMeasure& measure, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    useDevice(job.device);
    const Decoder decoder(job.base, job.config.dtype, job.blocks.length, job.device);
    if (world.isRoot()) {
        measureAlone(world, job, decoder, measure, folder / fmt::format("{}.safetensors", measure.name));
    } else {
        const std::int64_t group = sequencesAtOnce(decoder.config());
        StepNotice::follow(world, 0, (job.blocks.blocks + group - 1) / group * stopsOf(decoder));
    }
    world.barrier();
}

}  // namespace

void measureFisher(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    if (job.blocks.length < 2)
        throw UsageError("{}: the Fisher information needs a next token; sequence_length is {}, give at least 2",
                         job.base.name(), job.blocks.length);
    measure(world, job, kFisher, folder);
}

void measureSensitivity(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    measure(world, job, kSensitivity, folder);
}

}  // namespace aimerge
