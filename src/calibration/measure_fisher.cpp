#include "aimerge/calibration/measure_experts.h"

#include "aimerge/core/error.h"
#include "aimerge/model/gradient.h"
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
    return at::cross_entropy_loss(logits.narrow(0, 0, next), targets, {}, at::Reduction::Sum);
}

/// Sums of squared gradients. Terms are positive, so that float32 loses at most a relative 2^-24 per block.
class SquareSums : public GradientObserver {
public:
    void observe(const std::string& parameter, const at::Tensor& gradient) override {
        at::Tensor& sum = sums_[parameter];
        if (!sum.defined()) sum = at::zeros(gradient.sizes(), at::kFloat);
        const at::Tensor wide = gradient.to(at::kFloat);
        sum.addcmul_(wide, wide);
    }

    /// Divides by the number of blocks. @throws InputError
    const std::map<std::string, at::Tensor>& means(std::int64_t blocks, const std::string& model) {
        for (auto& [name, sum] : sums_) {
            sum.div_(blocks);
            if (!sum.isfinite().all().item<bool>())
                throw InputError(
                    "{}: the loss's gradient with respect to {} is NaN or beyond float32; check the model's weights, or "
                    "calibrate with dtype float32",
                    model, name);
        }
        return sums_;
    }

private:
    std::map<std::string, at::Tensor> sums_;
};

}  // namespace

void measureFisher(World& world, const CalibrationJob& job, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    if (job.blocks.length < 2)
        throw UsageError("{}: the Fisher information needs a next token; sequence_length is {}, give at least 2",
                         job.base.name(), job.blocks.length);
    const Decoder decoder(job.base, job.config.dtype, job.blocks.length);
    const std::int64_t group = sequencesAtOnce(decoder.config());
    Progress progress(job.progress, "fisher", "blocks", static_cast<std::uint64_t>(job.blocks.blocks), 0);
    SquareSums sums;
    for (std::int64_t first = 0; first < job.blocks.blocks; first += group) {
        const std::int64_t count = std::min(group, job.blocks.blocks - first);
        if (job.safePoint) job.safePoint();
        if (world.isRoot()) {
            const auto ids = std::span(job.blocks.ids)
                                 .subspan(static_cast<std::size_t>(first * job.blocks.length),
                                          static_cast<std::size_t>(count * job.blocks.length));
            differentiate(decoder, ids, job.blocks.length, languageModelLoss, sums);
        }
        world.barrier();  // so that no single wait lasts as long as the whole measurement
        progress.advance(static_cast<std::uint64_t>(count), 0);
    }
    if (world.isRoot()) writeStatisticFile(folder / "fisher.safetensors", sums.means(job.blocks.blocks, job.base.name()));
    world.barrier();
    progress.finish();
}

}  // namespace aimerge
