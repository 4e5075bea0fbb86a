#include "aimerge/calibration/measure_experts.h"

#include "aimerge/architecture/decoder_family.h"
#include "aimerge/calibration/gradient_memory.h"
#include "aimerge/calibration/stage_link.h"
#include "aimerge/calibration/torch_threads.h"
#include "aimerge/core/error.h"
#include "aimerge/distributed/stage.h"
#include "aimerge/model/gradient.h"
#include "calibration/magnitude_sum.h"
#include "calibration/statistic_file.h"
#include "calibration/tensor_bytes.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>
#include <utility>

namespace aimerge {
namespace {

constexpr int kStatesTag = 13, kGradientsTag = 14, kHeadTag = 15, kSumTag = 16;

/// The gradient of a loss that is a sum over rows. On a CPU each thread computes one row at a time, which stays in its L2.
/// @param ofRows makes of a float32 tensor of logits [rows, vocabulary] the gradient; its second argument is the first row
template <typename OfRows>
at::Tensor gradientByRows(const at::Tensor& logits, const OfRows& ofRows) {
    if (!logits.is_cpu()) return ofRows(logits.to(at::kFloat), 0).to(logits.scalar_type());
    const at::Tensor gradient = at::empty_like(logits);
    at::parallel_for(0, logits.size(0), 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row)
            gradient.narrow(0, row, 1).copy_(ofRows(logits.narrow(0, row, 1).to(at::kFloat), row));
    });
    return gradient;
}

/// The gradient of the summed negative log-likelihood of the next tokens: p - 1 at the next token, p elsewhere, for all
/// tokens but the last.
at::Tensor gradientOfLikelihood(const at::Tensor& logits, std::span<const std::int32_t> ids) {
    return gradientByRows(logits, [&](const at::Tensor& part, std::int64_t first) {
        const std::int64_t rows = part.size(0), next = std::min(rows, static_cast<std::int64_t>(ids.size()) - 1 - first);
        const at::Tensor targets = at::empty({next, 1}, at::kLong);
        std::copy_n(ids.begin() + first + 1, next, targets.mutable_data_ptr<std::int64_t>());
        const at::Tensor gradient = at::log_softmax(part, -1).exp_();
        gradient.narrow(0, next, rows - next).zero_();
        gradient.narrow(0, 0, next).scatter_add_(1, targets.to(part.device()), at::full({next, 1}, -1.0, part.options()));
        return gradient;
    });
}

/// The gradient of the mean entropy H = - sum_j p_j ln p_j of the next-token distributions: - p_j (ln p_j + H) / length.
at::Tensor gradientOfEntropy(const at::Tensor& logits, std::span<const std::int32_t> ids) {
    return gradientByRows(logits, [&](const at::Tensor& part, std::int64_t) {
        at::Tensor logarithms = at::log_softmax(part, -1);
        at::Tensor gradient = logarithms.exp();
        // Rounded probabilities do not add up to exactly 1: divide by their sum, so that gradients add up to 0.
        const at::Tensor entropy =
            at::mul(gradient, logarithms).sum(-1, /*keepdim=*/true).neg_().div_(gradient.sum(-1, true));
        return gradient.mul_(logarithms.add_(entropy)).mul_(-1.0 / static_cast<double>(ids.size()));
    });
}

void addSquare(at::Tensor& sum, const at::Tensor& gradient) {
    const at::Tensor wide = gradient.to(at::kFloat);
    sum.addcmul_(wide, wide);
}

template <typename Stored, typename Element>
void addMagnitudeOnHost(at::Tensor& sum, const at::Tensor& gradient) {
    constexpr std::int64_t kElementsPerTask = 1 << 16;
    float* const to = sum.mutable_data_ptr<float>();
    const auto* const from = reinterpret_cast<const Element*>(gradient.const_data_ptr<Stored>());
    at::parallel_for(0, sum.numel(), kElementsPerTask, [&](std::int64_t begin, std::int64_t end) {
        const auto count = static_cast<std::size_t>(end - begin);
        addMagnitudes(std::span<float>(to + begin, count), std::span<const Element>(from + begin, count));
    });
}

void addMagnitude(at::Tensor& sum, const at::Tensor& gradient) {
    const bool isPlain = gradient.is_cpu() && gradient.is_contiguous();
    if (isPlain && gradient.scalar_type() == at::kFloat) return addMagnitudeOnHost<float, float>(sum, gradient);
    if (isPlain && gradient.scalar_type() == at::kBFloat16)
        return addMagnitudeOnHost<at::BFloat16, std::uint16_t>(sum, gradient);
    sum.add_(gradient.abs());  // the magnitude of a bfloat16 is exact, and is widened as it is added
}

/// What is measured of gradients.
struct GradientMeasure {
    const char* name;  // of the phase and the file
    at::Tensor (*lossGradient)(const at::Tensor& logits, std::span<const std::int32_t> ids);
    void (*add)(at::Tensor& sum, const at::Tensor& gradient);  // in float32; what is added is not negative
};

constexpr GradientMeasure kFisher{"fisher", gradientOfLikelihood, addSquare};
constexpr GradientMeasure kSensitivity{"sensitivity", gradientOfEntropy, addMagnitude};

/// Terms are positive, so that float32 loses at most a relative 2^-24 per block.
class GradientSums : public GradientObserver {
public:
    GradientSums(const CalibrationJob& job, const GradientMeasure& measure) : job_(job), measure_(measure) {}

    void stop() override {
        if (job_.safePoint) job_.safePoint();
    }

    void observe(const std::string& parameter, at::IntArrayRef sizes, std::int64_t firstRow,
                 const at::Tensor& gradient) override {
        at::Tensor rows = sumOf(parameter, sizes, gradient).narrow(0, firstRow, gradient.size(0));
        measure_.add(rows, gradient);
    }

    void observeRows(const std::string& parameter, std::int64_t vocabulary, const at::Tensor& rows,
                     const at::Tensor& gradient) override {
        at::Tensor& sum = sumOf(parameter, {vocabulary, gradient.size(1)}, gradient);
        at::Tensor part = sum.index_select(0, rows);
        measure_.add(part, gradient);
        sum.index_copy_(0, rows, part);
    }

    /// The sum of a parameter's terms, for another to take. @pre observed
    at::Tensor take(const std::string& parameter) { return sums_.extract(parameter).mapped(); }
    /// @pre observed
    at::Tensor& sum(const std::string& parameter) { return sums_.at(parameter); }

    /// Divides by the number of blocks. @throws InputError
    const std::map<std::string, at::Tensor>& means() {
        for (auto& [name, sum] : sums_) {
            sum.div_(job_.blocks.blocks);
            if (!std::isfinite(sum.max().item<float>()))  // NaN comes through
                throw InputError(
                    "{}: the loss's gradient with respect to {} is NaN or beyond float32; check the model's weights, or "
                    "calibrate with dtype float32",
                    job_.base.name(), name);
        }
        return sums_;
    }

private:
    at::Tensor& sumOf(const std::string& parameter, at::IntArrayRef sizes, const at::Tensor& like) {
        at::Tensor& sum = sums_[parameter];
        if (!sum.defined()) sum = at::zeros(sizes, like.options().dtype(at::kFloat));
        return sum;
    }

    const CalibrationJob& job_;
    const GradientMeasure& measure_;
    std::map<std::string, at::Tensor> sums_;
};

/// Tensors between stages, by way of host memory, sent without waiting.
class TensorLink {
public:
    explicit TensorLink(World& world) : world_(world) {}

    void send(int to, int tag, const at::Tensor& tensor) {
        while (!leaving_.empty() && leaving_.front().request.test()) leaving_.pop_front();
        Message& message = leaving_.emplace_back();
        message.tensor = tensor.cpu().contiguous();
        message.request = world_.send(to, tag, bytesOf(message.tensor));
    }

    /// @param into on any device
    void receive(int from, int tag, at::Tensor& into) {
        const at::Tensor arrived = at::empty(into.sizes(), into.options().device(at::kCPU));
        world_.receive(from, tag, bytesOf(arrived)).wait();
        into.copy_(arrived);
    }

    void finish() {
        for (Message& message : leaving_) message.request.wait();
        leaving_.clear();
    }

private:
    struct Message {
        at::Tensor tensor;
        World::Request request;  // gone before the bytes that it sends
    };

    World& world_;
    std::deque<Message> leaving_;
};

/// Sequences that share one reading of the layers.
std::int64_t sequencesPerPass(Kept kept) {
    return kept == Kept::Nothing ? kMostSequencesAtOnce : 1;
}

/// How a job's memory is used; rounds and weights are the same on all ranks, which go through the passes together.
struct Keeping {
    Kept kept = Kept::Nothing;
    std::int64_t layersAtOnce = 0;  // of a stage, in a round of all blocks
    std::int64_t rounds = 1;
};

/// Collective.
Keeping keepingOf(World& world, const CalibrationJob& job, const Stage& stage) {
    std::int64_t stageLayers = 0;
    for (const RankPlan& rank : job.plan.ranks) stageLayers = std::max(stageLayers, rank.endLayer - rank.firstLayer);
    const ModelConfig& config = job.base.modelConfig();
    const GradientMemory memory =
        gradientMemory(config, stageLayers, stage.stages, job.blocks.length, job.config.dtype, job.memoryLimit);
    Keeping keeping;
    keeping.layersAtOnce = -world.maximum(-memory.layersAtOnce());  // GPUs may differ
    keeping.rounds = (stageLayers + keeping.layersAtOnce - 1) / keeping.layersAtOnce;
    if (world.any(!memory.keepsWeights())) return keeping;
    keeping.kept = Kept::Weights;
    if (stage.empty()) return keeping;
    const std::int64_t traces = (stage.endLayer - stage.firstLayer) * (stage.stages - stage.number());
    if (memory.keptActivationBytes(traces, config, job.blocks.length, job.config.dtype) > 0)
        keeping.kept = Kept::WeightsAndActivations;
    return keeping;
}

/// A rank's part: as many passes go forwards as there are stages behind this one, then one goes backwards for every one that
/// goes forwards. Each stage meets the passes in their order, in both directions.
class GradientStage {
public:
    GradientStage(World& world, const CalibrationJob& job, const Stage& stage, const GradientMeasure& measure, Kept kept,
                  const ObservedGradients& observed)
        : job_(job),
          stage_(stage),
          measure_(measure),
          decoder_(job.base, job.config.dtype, job.blocks.length, job.device),
          sums_(job, measure),
          observed_(observed),
          gradient_(decoder_, stage.firstLayer, stage.endLayer, job.blocks.length, kept, observed, sums_),
          link_(world),
          passes_(job.blocks.blocks, sequencesPerPass(kept)),
          progress_(job.progress, measure.name, "blocks", static_cast<std::uint64_t>(job.blocks.blocks), 0),
          notice_(world, stage.first() ? idleRanks(job.plan) : std::vector<int>{}) {}

    void run() {
        const std::int64_t behind = std::min<std::int64_t>(stage_.stages - 1 - stage_.number(), passes_.count());
        for (std::int64_t pass = 0; pass < passes_.count() + behind; ++pass) {
            if (pass < passes_.count()) forward(pass);
            if (pass >= behind) backward(pass - behind);
        }
        if (observesTied()) joinTiedSums();
        link_.finish();
        notice_.finish();
        progress_.finish();
    }

    const std::map<std::string, at::Tensor>& means() { return sums_.means(); }

private:
    void forward(std::int64_t number) {
        GradientPass& pass = going_.emplace_back();
        pass.ids = std::span(job_.blocks.ids)
                       .subspan(static_cast<std::size_t>(passes_.firstBlock(number) * job_.blocks.length),
                                static_cast<std::size_t>(passes_.sequences(number) * job_.blocks.length));
        if (stage_.first())
            gradient_.embed(pass);
        else
            for (std::int64_t s = 0; s < passes_.sequences(number); ++s)
                link_.receive(stage_.previous, kStatesTag,
                              pass.states.emplace_back(decoder_.emptyHidden(1, job_.blocks.length)));
        gradient_.forward(pass);
        if (stage_.last()) return;
        for (const at::Tensor& state : pass.states) link_.send(stage_.next, kStatesTag, state);
    }

    void backward(std::int64_t number) {
        GradientPass& pass = going_.front();
        if (stage_.last())
            gradient_.backwardThroughHead(pass, measure_.lossGradient);
        else
            for (at::Tensor& state : pass.states) {
                state = decoder_.emptyHidden(1, job_.blocks.length);  // the one before may still be on its way
                link_.receive(stage_.next, kGradientsTag, state);
            }
        if (observesTied() && stage_.stages > 1) passTiedRows(pass);
        gradient_.backward(pass);
        if (!stage_.first())
            for (const at::Tensor& state : pass.states) link_.send(stage_.previous, kGradientsTag, state);
        else if (observed_.ofEnds)
            gradient_.backwardThroughEmbedding(pass);
        going_.pop_front();
        progress_.advance(static_cast<std::uint64_t>(passes_.sequences(number)), 0);
        notice_.stepDone();
    }

    /// From the last stage to the first, whose embedding the head is.
    void passTiedRows(GradientPass& pass) {
        if (stage_.last())
            for (const at::Tensor& rows : std::exchange(pass.tiedRows, {})) link_.send(firstRank(), kHeadTag, rows);
        else if (stage_.first())
            for (std::size_t s = 0; s < pass.states.size(); ++s) {
                const auto tokens = static_cast<std::int64_t>(gradient_.tokensOf(pass, s).size());
                link_.receive(lastRank(), kHeadTag, pass.tiedRows.emplace_back(emptyRows(tokens)));
            }
    }

    /// Adds what the last stage summed up of the head to what the first did of the embedding. These are two sums also where
    /// one stage is both, so that the bits are the same for any number of stages.
    void joinTiedSums() {
        if (stage_.last() && !stage_.first()) link_.send(firstRank(), kSumTag, sums_.take(decoder_.headParameter()));
        if (!stage_.first()) return;
        at::Tensor head = stage_.last() ? sums_.take(decoder_.headParameter()) : emptyRows(decoder_.config().vocabSize);
        if (!stage_.last()) link_.receive(lastRank(), kSumTag, head);
        sums_.sum(decoder_.description().embedding).add_(head);
    }

    bool observesTied() const { return observed_.ofEnds && decoder_.config().tieWordEmbeddings; }
    int firstRank() const { return stage_.pipelines.front().front(); }
    int lastRank() const { return stage_.pipelines.front().back(); }
    at::Tensor emptyRows(std::int64_t rows) const {
        return at::empty({rows, decoder_.hiddenSize()}, at::TensorOptions(at::kFloat).device(decoder_.device()));
    }

    const CalibrationJob& job_;
    const Stage& stage_;
    const GradientMeasure& measure_;
    Decoder decoder_;
    GradientSums sums_;
    ObservedGradients observed_;
    StageGradient gradient_;
    TensorLink link_;
    MicroBatches passes_;
    Progress progress_;
    StepNotice notice_;
    std::deque<GradientPass> going_;  // those that have not come back
};

/// While it lives, what is freed stays with the process: every layer's gradients are made and dropped for every block, and
/// pages that come anew from the kernel each time took up to a quarter of the time.
class KeptHeap {
public:
    KeptHeap() {
        mallopt(M_MMAP_MAX, 0);
        mallopt(M_TRIM_THRESHOLD, -1);  // never
    }
    KeptHeap(const KeptHeap&) = delete;
    KeptHeap& operator=(const KeptHeap&) = delete;
    ~KeptHeap() {
        constexpr int kMostMapped = 65536, kTrimmedBytes = 128 << 10;  // as glibc begins
        mallopt(M_MMAP_MAX, kMostMapped);
        mallopt(M_TRIM_THRESHOLD, kTrimmedBytes);
        malloc_trim(0);
    }
};

/// Collective.
void measure(World& world, const CalibrationJob& job, const GradientMeasure& measure, const std::filesystem::path& folder) {
    setTorchThreads(job.threads);
    useDevice(job.device);
    requireRunnable(job.base.modelConfig(), job.base.name());
    const Stage stage = stageOf(job.plan, world.rank(), job.base.modelConfig().layers);
    const auto [kept, layersAtOnce, rounds] = keepingOf(world, job, stage);
    std::optional<KeptHeap> heap;
    if (kept != Kept::Nothing && !stage.empty()) heap.emplace();
    for (std::int64_t round = 0; round < rounds; ++round) {
        if (stage.empty()) {
            const MicroBatches passes(job.blocks.blocks, sequencesPerPass(kept));
            StepNotice::follow(world, stage.pipelines.front().front(), passes.count());
            continue;
        }
        const std::int64_t first = stage.firstLayer + round * layersAtOnce;
        const ObservedGradients observed{first, std::min(stage.endLayer, first + layersAtOnce), round == 0};
        GradientStage work(world, job, stage, measure, kept, observed);
        work.run();
        const auto& means = work.means();
        if (!means.empty())
            writeStatisticFile(folder / fmt::format("{}-{}-{}.safetensors", measure.name, world.rank(), round), means);
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
