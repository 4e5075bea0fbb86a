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

/// Sums of squared gradients. Terms are positive, so that float32 loses at most a relative 2^-24 per block.
class SquareSums : public GradientObserver {
public:
    SquareSums(const CalibrationJob& job, StepNotice& notice) : job_(job), notice_(notice) {}

    void stop() override {
        if (job_.safePoint) job_.safePoint();
        notice_.stepDone();
    }

    void observe(const std::string& parameter, const at::Tensor& gradient) override {
        at::Tensor& sum = sums_[parameter];
        if (!sum.defined()) sum = at::zeros(gradient.sizes(), gradient.options().dtype(at::kFloat));
        const at::Tensor wide = gradient.to(at::kFloat);
        sum.addcmul_(wide, wide);
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
    std::map<std::string, at::Tensor> sums_;
};

/// What rank 0 does.
void measureAlone(World& world, const CalibrationJob& job, const Decoder& decoder, const std::filesystem::path& file) {
    const std::int64_t group = sequencesAtOnce(decoder.config());
    Progress progress(job.progress, "fisher", "blocks", static_cast<std::uint64_t>(job.blocks.blocks), 0);
    StepNotice notice(world, otherRanks(world));
    SquareSums sums(job, notice);
    for (std::int64_t first = 0; first < job.blocks.blocks; first += group) {
        const std::int64_t count = std::min(group, job.blocks.blocks - first);
        const auto ids = std::span(job.blocks.ids)
                             .subspan(static_cast<std::size_t>(first * job.blocks.length),
                                      static_cast<std::size_t>(count * job.blocks.length));
        differentiate(decoder, ids, job.blocks.length, languageModelLoss, sums);
        progress.advance(static_cast<std::uint64_t>(count), 0);
    }
    notice.finish();
    writeStatisticFile(file, sums.means());
    progress.finish();
}

}  // namespace

void measureFisher(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    if (job.blocks.length < 2)
        throw UsageError("{}: the Fisher information needs a next token; sequence_length is {}, give at least 2",
                         job.base.name(), job.blocks.length);
    useDevice(job.device);
    const Decoder decoder(job.base, job.config.dtype, job.blocks.length, job.device);
    if (world.isRoot()) {
        measureAlone(world, job, decoder, folder / "fisher.safetensors");
    } else {
        const std::int64_t group = sequencesAtOnce(decoder.config());
        StepNotice::follow(world, 0, (job.blocks.blocks + group - 1) / group * stopsOf(decoder));
    }
    world.barrier();
}

}  // namespace aimerge
