#include "calibration/stage_run.h"

#include "aimerge/calibration/stage_link.h"
#include "aimerge/device/profiler_range.h"
#include "aimerge/distributed/pipeline.h"
#include "aimerge/model/decoder.h"
#include "calibration/group_size.h"

#include <ATen/ATen.h>

#include <chrono>
#include <span>
#include <type_traits>

namespace aimerge {
namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

class StageRun {
public:
    StageRun(World& world, HiddenTransport& transport, const CalibrationJob& job, const Stage& stage,
             const MicroBatches& steps, const std::vector<int>& waitingRanks, StageObserver& observer, LayerOrder order)
        : transport_(transport),
          job_(job),
          stage_(stage),
          observer_(observer),
          decoder_(job.base, job.config.dtype, job.blocks.length, job.device),
          steps_(steps),
          order_(order),
          notice_(world, waitingRanks),
          progress_(job.progress, "calibrate", order == LayerOrder::Grouped ? "blocks" : "blocks of a layer",
                    static_cast<std::uint64_t>(steps.blocks() * stepsOfMicroBatch()), 0) {
        if (stage.last()) finalNorm_ = reading([&] { return decoder_.loadFinalNorm(); });
    }

    /// All layers in memory, micro-batch after micro-batch.
    void runResident() {
        std::vector<LoadedLayer> layers;
        for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer) layers.push_back(loadLayer(layer));

        constexpr std::size_t kReceivingComputingSending = 3;
        StageLink link(transport_, stage_, steps_.shapes(job_.blocks.length), decoder_, kReceivingComputingSending);
        passStepByStep(link, steps_.count(), [&](std::int64_t step) {
            at::Tensor& hidden = enter(link, step);
            const ProfilerRange range("micro-batch");
            for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer)
                decoder_.runLayer(layer, layers[static_cast<std::size_t>(layer - stage_.firstLayer)], hidden, &observer_);
            leave(link, step);
        });
        finish(link);
    }

    /// One layer in memory: each group of micro-batches passes through it before the next layer is read.
    void runStreaming() {
        const std::int64_t group = groupSizeOf(job_, steps_);
        StageLink link(transport_, stage_, steps_.shapes(job_.blocks.length), decoder_, static_cast<std::size_t>(group));
        LoadedLayer weights;
        passLayerByLayer(
            link, steps_.count(), group, stage_.firstLayer, stage_.endLayer,
            [&](std::int64_t layer) {
                weights = {};  // before the next one comes into memory
                weights = loadLayer(layer);
            },
            [&](std::int64_t layer, std::int64_t step) {
                at::Tensor& hidden = layer == stage_.firstLayer ? enter(link, step) : resume(link, step);
                const ProfilerRange range("micro-batch through a layer");
                decoder_.runLayer(layer, weights, hidden, &observer_);
                if (layer + 1 == stage_.endLayer) leave(link, step);
            });
        finish(link);
    }

    void runOneAtATime() {
        passAll([&](StageLink& link) {
            for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer) {
                const LoadedLayer weights = loadLayer(layer);
                for (std::int64_t step = 0; step < steps_.count(); ++step) {
                    at::Tensor& hidden = layer == stage_.firstLayer ? enter(link, step) : resume(link, step);
                    const ProfilerRange range("micro-batch through a layer");
                    decoder_.runLayer(layer, weights, hidden, &observer_);
                    layer + 1 == stage_.endLayer ? leave(link, step) : stepDone(step);
                }
                observer_.finishLayer(layer);
            }
        });
    }

    /// As if the model were the merged one, with the layers of the base looked at in passing.
    void runSequential() {
        passAll([&](StageLink& link) {
            if (stage_.first()) embedMerged(link);
            for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer) {
                LoadedLayer weights = loadLayer(layer);
                for (std::int64_t step = 0; step < steps_.count(); ++step) {
                    at::Tensor measured = resume(link, step).clone();
                    decoder_.runLayer(layer, weights, measured, &observer_);
                }
                weights = {};
                weights = reading([&] { return mergedLayer(layer); });
                for (std::int64_t step = 0; step < steps_.count(); ++step) {
                    decoder_.runLayer(layer, weights, link.take(step), nullptr);
                    observer_.beginMicroBatch(steps_.firstBlock(step));
                    layer + 1 == stage_.endLayer ? leave(link, step) : stepDone(step);
                }
            }
        });
    }

    std::uint64_t bytesRead() const { return decoder_.bytesRead(); }
    double readSeconds() const { return readSeconds_; }
    double waitSeconds() const { return waitSeconds_; }

private:
    /// The hidden states of all micro-batches in memory, and stages that work one after another.
    template <typename Work>
    void passAll(const Work& work) {
        StageLink link(transport_, stage_, steps_.shapes(job_.blocks.length), decoder_,
                       static_cast<std::size_t>(steps_.count()));
        passStageByStage(link, steps_.count(), [&] { work(link); });
        finish(link);
    }

    at::Tensor& enter(StageLink& link, std::int64_t step) {
        at::Tensor& hidden = resume(link, step);
        if (stage_.first()) decoder_.embed(idsOf(step), hidden);
        return hidden;
    }

    void embedMerged(StageLink& link) const {
        const std::unique_ptr<WeightSource> source = job_.merged->embedding();
        const Decoder merged(*source, job_.config.dtype, job_.blocks.length, job_.device);
        for (std::int64_t step = 0; step < steps_.count(); ++step) merged.embed(idsOf(step), link.take(step));
    }

    LoadedLayer loadLayer(std::int64_t layer) {
        return reading([&] { return decoder_.loadLayer(layer, stage_.endLayer); });
    }

    LoadedLayer mergedLayer(std::int64_t layer) const {
        const std::unique_ptr<WeightSource> source = job_.merged->layer(layer, observer_.ofLayer(layer));
        return Decoder(*source, job_.config.dtype, job_.blocks.length, job_.device).loadLayer(layer);
    }

    at::Tensor& resume(StageLink& link, std::int64_t step) {
        if (job_.safePoint) job_.safePoint();
        observer_.beginMicroBatch(steps_.firstBlock(step));
        return link.take(step);
    }

    void leave(StageLink& link, std::int64_t step) {
        if (stage_.last()) decoder_.runFinalNorm(finalNorm_, link.take(step), &observer_);
        stepDone(step);
    }

    void stepDone(std::int64_t step) {
        notice_.stepDone();
        progress_.advance(static_cast<std::uint64_t>(steps_.sequences(step)), 0);
    }

    std::int64_t stepsOfMicroBatch() const {
        return order_ == LayerOrder::Grouped ? 1 : stage_.endLayer - stage_.firstLayer;
    }

    void finish(const StageLink& link) {
        notice_.finish();
        progress_.finish();
        waitSeconds_ = link.waitSeconds();
    }

    std::span<const std::int32_t> idsOf(std::int64_t step) const {
        const std::int64_t length = job_.blocks.length;
        return std::span(job_.blocks.ids)
            .subspan(static_cast<std::size_t>(steps_.firstBlock(step) * length),
                     static_cast<std::size_t>(steps_.sequences(step) * length));
    }

    /// What `load` returns; its time counts as reading.
    template <typename Load>
    std::invoke_result_t<Load> reading(const Load& load) {
        const auto start = Clock::now();
        const ProfilerRange range("read weights");
        auto loaded = load();
        readSeconds_ += secondsSince(start);
        return loaded;
    }

    HiddenTransport& transport_;
    const CalibrationJob& job_;
    const Stage& stage_;
    StageObserver& observer_;
    Decoder decoder_;
    MicroBatches steps_;
    LayerOrder order_;
    StepNotice notice_;
    Progress progress_;
    ModuleWeights finalNorm_;
    double readSeconds_ = 0, waitSeconds_ = 0;
};

}  // namespace

StageRecord runStage(World& world, HiddenTransport& transport, const CalibrationJob& job, const Stage& stage,
                     const MicroBatches& steps, const std::vector<int>& waitingRanks, StageObserver& observer,
                     LayerOrder order) {
    const auto start = Clock::now();
    StageRun run(world, transport, job, stage, steps, waitingRanks, observer, order);
    if (order == LayerOrder::Sequential)
        run.runSequential();
    else if (order == LayerOrder::OneAtATime)
        run.runOneAtATime();
    else if (stage.streamsLayers)
        run.runStreaming();
    else
        run.runResident();
    StageRecord record;
    record.rank = stage.rank;
    record.firstLayer = stage.firstLayer;
    record.lastLayer = stage.endLayer - 1;
    record.bytesRead = static_cast<std::int64_t>(run.bytesRead());
    record.tokens = steps.blocks() * job.blocks.length;
    record.readSeconds = run.readSeconds();
    record.waitSeconds = run.waitSeconds();
    record.forwardSeconds = secondsSince(start) - record.readSeconds - record.waitSeconds;
    return record;
}

}  // namespace aimerge
