#pragma once
// --gather root: ranks that do not see the output's folder keep what they have merged of a batch of tensors in memory and
// send it to rank 0, which writes it at its place, as it writes its own.

#include "job/merge_step.h"

#include "aimerge/distributed/world.h"

#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace aimerge {

/// On a rank other than 0: keeps what is merged until it is sent.
class OutgoingStore : public PointStore {
public:
    /// @param job must outlive the store
    explicit OutgoingStore(const MergeJob& job);

    void write(std::size_t point, const std::string& tensor, std::uint64_t offset,
               std::span<const std::byte> bytes) override;
    void finish(const std::string& tensor) override;

    /// Sends the finished tensors, or that there are no more. Main thread; waits until rank 0 takes them.
    void send(World& world);
    void sendEnd(World& world);

private:
    std::map<std::string, std::uint64_t> bytesOf_;  // of an output tensor
    std::size_t points_;
    std::mutex mutex_;
    std::map<std::string, std::vector<std::vector<std::byte>>> held_;  // per point
    std::vector<std::string> finished_;
};

/// On rank 0: receives what the others send.
class IncomingTensors {
public:
    /// @param store gets their bytes, as if they had been merged here
    IncomingTensors(World& world, std::size_t points, PointStore& store);

    /// What has come or is coming now; then what is left, until every rank has sent its end.
    void takeArrived();
    void takeRest();

private:
    /// A rank that still sends.
    struct Sender {
        int rank = 0;
        std::uint64_t announced = 0;  // length of its next list
        World::Request arrival;
    };

    void listenTo(Sender& sender);
    /// @return false after the sender's end
    bool take(Sender& sender);

    World& world_;
    std::size_t points_;
    PointStore& store_;
    std::list<Sender> senders_;  // not moved: the next length arrives inside
};

}  // namespace aimerge
