// The order of exchanges, over a transport that is stricter than MPI: as on a GPU's stream, an exchange begins when the one
// before is over, and is over when both of its messages have met their counterparts.

#include "aimerge/distributed/pipeline.h"
#include "aimerge/calibration/stage_link.h"
#include "model/golden_model.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

namespace aimerge {
namespace {

constexpr std::chrono::seconds kDeadline{20};

/// All ranks of a test in one process.
class Meeting {
public:
    struct Order {
        at::Tensor outgoing, incoming;
        bool isSent = true, isReceived = true;
        bool over() const { return isSent && isReceived; }
    };

    explicit Meeting(int ranks) : queues_(static_cast<std::size_t>(ranks)) {}

    std::shared_ptr<Order> start(int rank, int previous, int next, const at::Tensor& outgoing, const at::Tensor& incoming) {
        const std::lock_guard lock(mutex_);
        auto order = std::make_shared<Order>(Order{outgoing, incoming, !outgoing.defined(), !incoming.defined()});
        Queue& queue = queues_[static_cast<std::size_t>(rank)];
        queue.previous = previous;
        queue.next = next;
        queue.orders.push_back(order);
        while (advance()) continue;
        changed_.notify_all();
        return order;
    }

    void wait(const Order& order) {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, kDeadline, [&] { return order.over(); })) throw std::runtime_error("deadlock");
    }

    /// Messages that nobody asked for, or that never came.
    std::size_t left() const {
        std::size_t orders = 0;
        for (const Queue& queue : queues_) orders += queue.orders.size();
        return orders;
    }

private:
    struct Queue {
        int previous = -1, next = -1;
        std::deque<std::shared_ptr<Order>> orders;  // the first is on its way
    };

    /// Lets messages of current exchanges meet. @return whether an exchange is over now
    bool advance() {
        for (Queue& sender : queues_) {
            if (sender.orders.empty() || sender.orders.front()->isSent) continue;
            Order& sending = *sender.orders.front();
            Queue& receiver = queues_[static_cast<std::size_t>(sender.next)];
            if (receiver.orders.empty() || receiver.orders.front()->isReceived) continue;
            Order& receiving = *receiver.orders.front();
            if (receiving.incoming.sizes() != sending.outgoing.sizes())
                throw std::logic_error("messages of other sizes met");
            receiving.incoming.copy_(sending.outgoing);
            sending.isSent = receiving.isReceived = true;
        }
        bool any = false;
        for (Queue& queue : queues_) {
            if (queue.orders.empty() || !queue.orders.front()->over()) continue;
            queue.orders.pop_front();
            any = true;
        }
        return any;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<Queue> queues_;
};

class MeetingTransport : public HiddenTransport {
public:
    /// @param connects as NCCL does before the first message between two ranks: an exchange starts when the other side
    /// starts its own
    MeetingTransport(Meeting& meeting, const Stage& stage, bool connects = false)
        : meeting_(meeting), stage_(stage), connects_(connects) {}

    Exchange start(const at::Tensor& outgoing, const at::Tensor& incoming) override {
        const auto order = meeting_.start(stage_.rank, stage_.previous, stage_.next, outgoing, incoming);
        if (connects_) meeting_.wait(*order);
        Exchange exchange;
        if (outgoing.defined()) exchange.outgoing = std::make_unique<Wait>(meeting_, order);
        if (incoming.defined()) exchange.incoming = std::make_unique<Wait>(meeting_, order);
        return exchange;
    }

private:
    struct Wait : Transfer {
        Wait(Meeting& meeting, std::shared_ptr<Meeting::Order> order) : meeting(meeting), order(std::move(order)) {}
        void wait() override { meeting.wait(*order); }
        Meeting& meeting;
        std::shared_ptr<Meeting::Order> order;
    };

    Meeting& meeting_;
    const Stage& stage_;
    bool connects_;
};

struct Shape4 {
    int stages, replicas;
    std::int64_t steps, group;  // group 0: all layers in memory
};

void PrintTo(const Shape4& shape, std::ostream* out) {
    *out << shape.stages << " stages, " << shape.replicas << " replicas, " << shape.steps << " steps, group " << shape.group;
}

/// The stages of one pipeline, on ranks [first, first + stages).
std::vector<Stage> stagesFrom(int first, int stages) {
    std::vector<Stage> all(static_cast<std::size_t>(stages));
    for (int s = 0; s < stages; ++s) {
        Stage& stage = all[static_cast<std::size_t>(s)];
        stage.rank = first + s;
        stage.stages = stages;
        stage.previous = s == 0 ? -1 : stage.rank - 1;
        stage.next = s + 1 == stages ? -1 : stage.rank + 1;
    }
    return all;
}

class Pipeline : public testing::TestWithParam<Shape4> {
protected:
    /// Every step begins as its number and each layer of each stage adds 1. @return what the last stage has of each step
    std::vector<float> run(Meeting& meeting, const Stage& stage, const Decoder& decoder) const {
        const Shape4& shape = GetParam();
        constexpr std::int64_t kLayers = 2;
        std::vector<StepShape> shapes;
        for (std::int64_t step = 0; step < shape.steps; ++step) shapes.push_back({1, 1 + step % 3});
        MeetingTransport transport(meeting, stage);
        StageLink link(transport, stage, shapes, decoder, shape.group == 0 ? 3 : static_cast<std::size_t>(shape.group));
        std::vector<float> results;
        const auto work = [&](std::int64_t layer, std::int64_t step) {
            at::Tensor& hidden = link.take(step);
            if (stage.first() && layer == 0) hidden.fill_(static_cast<double>(step));
            hidden.add_(1);
            if (stage.last() && layer + 1 == kLayers) results.push_back(hidden.min().item<float>());
        };
        if (shape.group == 0)
            passStepByStep(link, shape.steps, [&](std::int64_t step) {
                for (std::int64_t layer = 0; layer < kLayers; ++layer) work(layer, step);
            });
        else
            passLayerByLayer(
                link, shape.steps, shape.group, 0, kLayers, [](std::int64_t) {}, work);
        return results;
    }
};

TEST_P(Pipeline, BringsEveryStepThroughAllStages) {
    const Shape4& shape = GetParam();
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());
    const Decoder decoder(checkpoint, Dtype::F32, 4);
    Meeting meeting(shape.stages * shape.replicas);
    std::vector<std::vector<float>> results(static_cast<std::size_t>(shape.replicas));
    std::vector<std::string> faults(static_cast<std::size_t>(shape.stages * shape.replicas));

    std::vector<std::thread> ranks;
    for (int replica = 0; replica < shape.replicas; ++replica)
        for (const Stage& stage : stagesFrom(replica * shape.stages, shape.stages))
            ranks.emplace_back([&, stage, replica] {
                try {
                    const std::vector<float> found = run(meeting, stage, decoder);
                    if (stage.last()) results[static_cast<std::size_t>(replica)] = found;
                } catch (const std::exception& fault) {
                    faults[static_cast<std::size_t>(stage.rank)] = fault.what();
                }
            });
    for (std::thread& rank : ranks) rank.join();

    EXPECT_EQ(faults, std::vector<std::string>(faults.size()));
    EXPECT_EQ(meeting.left(), 0u);
    std::vector<float> expected;
    for (std::int64_t step = 0; step < shape.steps; ++step) expected.push_back(static_cast<float>(step + 2 * shape.stages));
    for (const std::vector<float>& result : results) EXPECT_EQ(result, expected);
}

TEST(StageByStage, AStageBeginsWhenTheOneBeforeHasDoneItsWork) {
    constexpr int kStages = 4;
    constexpr std::int64_t kSteps = 3;
    const Checkpoint checkpoint = Checkpoint::open(goldenPath("family_f32/base").string());
    const Decoder decoder(checkpoint, Dtype::F32, 4);
    Meeting meeting(kStages);
    std::array<std::promise<void>, kStages> done;
    std::vector<float> results;
    std::vector<std::string> faults(kStages);

    std::vector<std::thread> ranks;
    for (const Stage& stage : stagesFrom(0, kStages))
        ranks.emplace_back([&, stage] {
            try {
                if (!stage.first() && done.at(static_cast<std::size_t>(stage.previous)).get_future().wait_for(kDeadline) !=
                                          std::future_status::ready)
                    throw std::runtime_error("deadlock");
                MeetingTransport transport(meeting, stage, /*connects=*/true);
                StageLink link(transport, stage, std::vector<StepShape>(kSteps, {1, 2}), decoder, kSteps);
                passStageByStage(link, kSteps, [&] {
                    for (std::int64_t step = 0; step < kSteps; ++step) {
                        at::Tensor& hidden = link.take(step);
                        if (stage.first()) hidden.fill_(static_cast<double>(step));
                        hidden.add_(1);
                        if (stage.last()) results.push_back(hidden.min().item<float>());
                    }
                    done.at(static_cast<std::size_t>(stage.rank)).set_value();
                });
            } catch (const std::exception& fault) {
                faults[static_cast<std::size_t>(stage.rank)] = fault.what();
            }
        });
    for (std::thread& rank : ranks) rank.join();

    EXPECT_EQ(faults, std::vector<std::string>(kStages));
    EXPECT_EQ(meeting.left(), 0u);
    EXPECT_EQ(results, (std::vector<float>{4, 5, 6}));
}

std::vector<Shape4> allShapes() {
    std::vector<Shape4> shapes;
    for (int stages = 1; stages <= 16; ++stages)
        for (const std::int64_t group : {0, 1, 4, 9}) shapes.push_back({stages, 1 + stages % 4, 9, group});
    for (const std::int64_t steps : {1, 2, 3})
        for (const std::int64_t group : {std::int64_t{0}, steps}) shapes.push_back({4, 2, steps, group});
    return shapes;
}

INSTANTIATE_TEST_SUITE_P(, Pipeline, testing::ValuesIn(allShapes()));

}  // namespace
}  // namespace aimerge
