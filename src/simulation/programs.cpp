#include "simulation/programs.h"

#include "aimerge/distributed/message_link.h"
#include "aimerge/distributed/pipeline.h"
#include "aimerge/distributed/stage.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

/// Output bytes of a batch (cli/merge_step.cpp).
constexpr double kBatchBytes = 1 << 28;

/// A hidden state, as far as a simulation goes.
struct StateSize {
    double bytes = 0;
};

/// Writes down in a rank's program what a transport would do.
class RecordingTransport : public MessageTransport<StateSize> {
public:
    RecordingTransport(const Stage& stage, const Topology& topology, std::vector<Operation>& program)
        : stage_(stage), topology_(topology), program_(program) {}

    Exchange start(const StateSize& outgoing, const StateSize& incoming) override {
        StartExchange exchange;
        Exchange started;
        if (outgoing.bytes > 0) {
            exchange.to = stage_.next;
            exchange.outgoing = topology_.sending(stage_.rank, stage_.next, outgoing.bytes, TimeUse::Linking);
            started.outgoing = std::make_unique<Wait>(program_, WaitForMessage{exchanges_, false});
        }
        if (incoming.bytes > 0) {
            exchange.from = stage_.previous;
            started.incoming = std::make_unique<Wait>(program_, WaitForMessage{exchanges_, true});
        }
        program_.emplace_back(std::move(exchange));
        ++exchanges_;
        return started;
    }

private:
    struct Wait : Transfer {
        Wait(std::vector<Operation>& program, WaitForMessage operation) : program(program), operation(operation) {}
        void wait() override { program.emplace_back(operation); }
        std::vector<Operation>& program;
        WaitForMessage operation;
    };

    const Stage& stage_;
    const Topology& topology_;
    std::vector<Operation>& program_;
    std::size_t exchanges_ = 0;
};

/// A stage's part of a calibration: what calibration/stage_run.cpp does, with times in the place of work.
class StageProgram {
public:
    StageProgram(const SimulatedJob& job, const Topology& topology, const Stage& stage, std::vector<Operation>& program)
        : job_(job),
          topology_(topology),
          stage_(stage),
          program_(program),
          plan_(job.plan.ranks.at(static_cast<std::size_t>(stage.rank))),
          layers_(static_cast<double>(stage.endLayer - stage.firstLayer)),
          steps_(job.settings.blocks, job.settings.microBatch, stage.replica, job.plan.replicas),
          transport_(stage, topology, program) {}

    void runResident() {
        for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer) load();
        constexpr std::size_t kReceivingComputingSending = 3;
        MessageLink<StateSize> link = linkWith(kReceivingComputingSending);
        passStepByStep(link, steps_.count(), [&](std::int64_t step) {
            link.take(step);
            compute(step, layers_);
        });
    }

    void runStreaming() {
        const std::int64_t group = groupSize(steps_, job_.plan.streamedGroups, plan_.hiddenStates);
        MessageLink<StateSize> link = linkWith(static_cast<std::size_t>(group));
        passLayerByLayer(
            link, steps_.count(), group, stage_.firstLayer, stage_.endLayer, [&](std::int64_t) { load(); },
            [&](std::int64_t, std::int64_t step) {
                link.take(step);
                compute(step, 1);
            });
    }

    /// Each layer as it is, and as the merge makes it. A stage begins when the one before has sent everything.
    void runSequential() {
        MessageLink<StateSize> link = linkWith(static_cast<std::size_t>(steps_.count()));
        passStageByStage(link, steps_.count(), [&] {
            for (std::int64_t step = 0; step < steps_.count(); ++step) link.take(step);
            for (std::int64_t layer = stage_.firstLayer; layer < stage_.endLayer; ++layer) {
                load();
                for (std::int64_t step = 0; step < steps_.count(); ++step) compute(step, 1);
                read(static_cast<double>(plan_.bytesToRead) / layers_);
                for (std::int64_t step = 0; step < steps_.count(); ++step) compute(step, 1);
            }
        });
    }

    std::int64_t microBatches() const { return steps_.count(); }

private:
    MessageLink<StateSize> linkWith(std::size_t slots) {
        const PlanSettings& settings = job_.settings;
        const double bytesPerSequence = static_cast<double>(settings.blockLength * job_.hiddenSize) *
                                        static_cast<double>(bytesPerElement(settings.computeDtype));
        return {transport_, stage_, std::min(slots, static_cast<std::size_t>(steps_.count())),
                [this, bytesPerSequence](std::int64_t step, std::size_t) {
                    return StateSize{static_cast<double>(steps_.sequences(step)) * bytesPerSequence};
                }};
    }

    void load() { read(static_cast<double>(plan_.calibrationBytesToRead) / layers_); }

    void read(double bytes) {
        program_.emplace_back(
            Move{topology_.reading(stage_.rank, bytes), bytes / job_.machine.rankReadBytesPerSecond, TimeUse::Reading, 0});
    }

    /// A micro-batch through so many layers: products, or what it takes to bring their weights in.
    void compute(std::int64_t step, double layers) {
        const double share = static_cast<double>(steps_.sequences(step)) / static_cast<double>(steps_.blocks());
        const double seconds =
            std::max(plan_.calibrationFlops * share / job_.machine.flopsPerSecond,
                     static_cast<double>(plan_.calibrationWeightBytes) / job_.machine.weightBytesPerSecond);
        program_.emplace_back(Compute{seconds * layers / layers_});
    }

    const SimulatedJob& job_;
    const Topology& topology_;
    const Stage& stage_;
    std::vector<Operation>& program_;
    const RankPlan& plan_;
    double layers_;
    MicroBatches steps_;
    RecordingTransport transport_;
};

/// The first replica adds up its parts of the corpus by itself; others send each (calibration/statistics_observer.h).
std::int64_t partsOf(const Stage& stage, const Plan& plan, std::int64_t microBatches) {
    if (stage.replica == 0) return 1;
    return std::min<std::int64_t>((kMostReplicas + plan.replicas - 1) / plan.replicas, microBatches);
}

}  // namespace

Programs preparePrograms(const SimulatedJob& job, const Topology& topology) {
    Programs programs(job.plan.ranks.size());
    const auto bytes = static_cast<double>(job.baseBytes);
    const double rate = std::min(job.machine.digestBytesPerSecond, job.machine.rankReadBytesPerSecond);
    programs.front().emplace_back(Move{topology.reading(0, bytes), bytes / rate, TimeUse::Reading, 0});
    return programs;
}

Programs calibratePrograms(const SimulatedJob& job, const Topology& topology) {
    Programs programs(job.plan.ranks.size());
    for (std::size_t r = 0; r < programs.size(); ++r) {
        const auto rank = static_cast<int>(r);
        const Stage stage = stageOf(job.plan, rank, job.layers);
        double statistics = 0;
        if (!stage.empty()) {
            StageProgram run(job, topology, stage, programs[r]);
            if (job.settings.mergedAtOnceBytes > 0)
                run.runSequential();
            else if (stage.streamsLayers)
                run.runStreaming();
            else
                run.runResident();
            statistics = static_cast<double>(job.plan.ranks[r].statisticsBytes) *
                         static_cast<double>(partsOf(stage, job.plan, run.microBatches()));
        }
        if (rank == 0)
            programs[r].emplace_back(TakeRest{});
        else
            programs[r].emplace_back(Give{topology.sending(rank, 0, statistics, TimeUse::Gathering)});
    }
    return programs;
}

Programs mergePrograms(const SimulatedJob& job, const Topology& topology) {
    Programs programs(job.plan.ranks.size());
    for (std::size_t r = 0; r < programs.size(); ++r) {
        const RankPlan& plan = job.plan.ranks[r];
        const auto rank = static_cast<int>(r);
        const auto write = static_cast<double>(plan.bytesToWrite), read = static_cast<double>(plan.bytesToRead);
        const double batches = std::ceil(write / kBatchBytes), ofBatch = 1 / std::max(batches, 1.0);
        const bool sends = job.gathersAtRoot && rank != 0;
        Move batch{topology.reading(rank, read * ofBatch), (read + write) * ofBatch / job.machine.mergeBytesPerSecond,
                   TimeUse::Computing, 0};
        const std::vector<Demand> writing = topology.writing(sends ? 0 : rank, write * ofBatch);
        Move sent = topology.sending(rank, 0, write * ofBatch, TimeUse::Gathering);
        std::ranges::copy(writing, std::back_inserter(sends ? sent.demands : batch.demands));
        for (int i = 0; i < batches; ++i) {
            programs[r].emplace_back(batch);
            if (!job.gathersAtRoot) continue;
            programs[r].emplace_back(sends ? Operation(Give{sent}) : Operation(TakeArrived{}));
        }
        if (job.gathersAtRoot && rank == 0) programs[r].emplace_back(TakeRest{});
    }
    return programs;
}

}  // namespace aimerge
