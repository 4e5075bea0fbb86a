#pragma once
// Messages on their way through a pipeline: received from the stage before, worked on in place, sent to the stage after,
// without waiting. Each step has a slot, step modulo the number of slots; with three slots one is being received, one
// computed and one sent. What a message is, and what carries it, is the user's: hidden states by MPI or NCCL when a model
// runs, sizes alone when a run is simulated.

#include "aimerge/distributed/stage.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace aimerge {

/// A message on its way. One that goes before it has been waited for is given up.
class Transfer {
public:
    virtual ~Transfer() = default;
    /// Returns when the message has left or arrived. @throws as World's waits do
    virtual void wait() = 0;
};

/// Null where there was nothing to send or receive.
struct Exchange {
    std::unique_ptr<Transfer> outgoing, incoming;
};

/// @tparam Message cheap to copy; `Message()` is none
template <typename Message>
class MessageTransport {
public:
    virtual ~MessageTransport() = default;

    /// Starts sending to the stage after and receiving from the stage before, neither waiting for the other. Messages
    /// between two stages arrive in the order in which they were started; both sides name the same number of bytes.
    /// @param outgoing, incoming `Message()` where there is none; left alone until they are waited for
    virtual Exchange start(const Message& outgoing, const Message& incoming) = 0;
};

/// The Link of pipeline.h.
template <typename Message>
class MessageLink {
public:
    /// What a step's message is, with room in that slot.
    using MessageOf = std::function<Message(std::int64_t step, std::size_t slot)>;

    MessageLink(MessageTransport<Message>& transport, const Stage& stage, std::size_t slots, MessageOf messageOf)
        : transport_(transport), stage_(stage), slots_(slots), messageOf_(std::move(messageOf)) {}

    /// The step's message is to be received by the next exchange; first waits until the slot's earlier one has left. At the
    /// first stage it only frees the slot.
    void expect(std::int64_t step) {
        Slot& slot = slotOf(step);
        waitFor(slot.outgoing);
        slot.message = messageOf_(step, indexOf(step));
        if (!stage_.first()) receiving_ = &slot;
    }

    /// The step's message, received; at the first stage as messageOf made it.
    Message& take(std::int64_t step) {
        Slot& slot = slotOf(step);
        waitFor(slot.incoming);
        return slot.message;
    }

    /// What take() gave is to be sent by the next exchange; at the last stage nothing.
    void pass(std::int64_t step) {
        if (!stage_.last()) sending_ = &slotOf(step);
    }

    /// Starts what is to be received and sent: one step each at most.
    void exchange() {
        if (!receiving_ && !sending_) return;
        Exchange started =
            transport_.start(sending_ ? sending_->message : Message(), receiving_ ? receiving_->message : Message());
        if (sending_) sending_->outgoing = std::move(started.outgoing);
        if (receiving_) receiving_->incoming = std::move(started.incoming);
        sending_ = receiving_ = nullptr;
    }

    /// Waits until everything has been sent.
    void finish() {
        exchange();
        for (Slot& slot : slots_) waitFor(slot.outgoing);
    }

    double waitSeconds() const { return waitSeconds_; }

private:
    struct Slot {
        Message message;
        std::unique_ptr<Transfer> incoming, outgoing;  // gone before the message they use
    };

    std::size_t indexOf(std::int64_t step) const { return static_cast<std::size_t>(step) % slots_.size(); }
    Slot& slotOf(std::int64_t step) { return slots_[indexOf(step)]; }

    void waitFor(std::unique_ptr<Transfer>& transfer) {
        if (!transfer) return;
        const auto start = std::chrono::steady_clock::now();
        transfer->wait();
        transfer.reset();
        waitSeconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    MessageTransport<Message>& transport_;
    const Stage& stage_;
    std::vector<Slot> slots_;
    MessageOf messageOf_;
    Slot *receiving_ = nullptr, *sending_ = nullptr;  // by the next exchange
    double waitSeconds_ = 0;
};

}  // namespace aimerge
