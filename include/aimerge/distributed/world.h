#pragma once
// The ranks of a job. Started without mpirun or srun there is one rank and MPI is never initialised.
// Every wait has a deadline (AIMERGE_COLLECTIVE_TIMEOUT) and also ends when another rank reports a failure, so no rank
// waits for one that is gone. Calls are made by the main thread alone.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// Thrown out of a wait when another rank has failed. Code that catches it to clean up throws it again. The failing rank's
/// own error is reported.
class PeerFailed : public std::exception {
public:
    PeerFailed(int rank, int exitCode, std::string message)
        : rank_(rank), exitCode_(exitCode), message_(std::move(message)) {}
    int rank() const { return rank_; }
    int exitCode() const { return exitCode_; }
    const std::string& message() const { return message_; }  // that rank's error line
    const char* what() const noexcept override { return message_.c_str(); }

private:
    int rank_, exitCode_;
    std::string message_;
};

/// All functions that wait throw PeerFailed, and RuntimeFault when the deadline passes or MPI reports an error.
class World {
public:
    /// Longer messages travel as several of at most this many bytes: MPI counts are 31 bits.
    static constexpr std::size_t kChunkBytes = std::size_t{16} << 20;

    /// Collective. Initialises MPI when a launcher's environment is present.
    /// @throws UsageError for a bad AIMERGE_COLLECTIVE_TIMEOUT, or when srun started several tasks that MPI cannot see
    World(int& argc, char**& argv);
    /// One rank, whatever MPI does in this process. @throws UsageError when a launcher has started several processes, which
    /// would all do the same
    static World alone();
    ~World();
    World(World&&) noexcept;
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    int rank() const;
    int size() const;
    bool isRoot() const { return rank() == 0; }
    int ranksOnNode() const;  // ranks that share this machine
    int rankOnNode() const;   // this one's number among them, in the order of the ranks
    /// Hardware threads for this rank: those that it may run on, divided among the ranks of this machine that share them,
    /// and no more than its container has time for. At least 1.
    int processorsOfRank() const;

    /// Collective. Returns when all have come.
    void barrier();
    /// Collective. The root's text on every rank; what the other ranks pass is ignored.
    std::string broadcast(std::string text);
    /// Collective. All ranks' texts in rank order, on the root; empty elsewhere.
    std::vector<std::string> gather(const std::string& text);
    /// Collective. Largest value over the ranks, on all of them.
    std::int64_t maximum(std::int64_t value);
    /// Collective. True when any rank says true.
    bool any(bool value) { return maximum(value ? 1 : 0) != 0; }

    class Request;
    /// Point to point, non-blocking, any size. Both sides name the same number of bytes; the buffer must stay until the
    /// request is waited for. Messages of one sender, receiver and tag arrive in the order they were sent.
    /// @pre another rank, tag >= 0
    Request send(int to, int tag, std::span<const std::byte> bytes);
    Request receive(int from, int tag, std::span<std::byte> bytes);

    /// Local, never blocks: throws PeerFailed when another rank has reported a failure. For long work between waits.
    void throwIfPeerFailed();

    /// Called in main() by a rank whose work threw: tells the others, so that their waits end with PeerFailed. Never blocks.
    void reportFailure(int exitCode, const std::string& message);

    /// Called last on every rank, with the code its own work ended with (of a PeerFailed: the peer's). Ranks that succeeded
    /// wait for the others; after a failure anywhere they meet for a few seconds, then end whoever has not come. Returns
    /// the job's exit code, the same on every rank: rank 0's if it is not 0, else that of the lowest failing rank.
    /// A failure that rank 0 learns of only here is printed here, as main() prints the others: once.
    int leave(int exitCode);

private:
    struct Impl;
    explicit World(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

/// Move-only; wait() before it goes. One that goes while active (an exception passes) is cancelled, or, when its bytes are
/// already on their way, given a moment to end, because MPI may still use the buffer.
class World::Request {
public:
    Request();
    ~Request();
    Request(Request&&) noexcept;
    Request& operator=(Request&&) noexcept;
    /// Returns when the message has been sent or received; at once when there is none.
    void wait();
    /// True when it has been sent or received. Never blocks; calling it now and then keeps long messages moving.
    bool test();
    bool active() const;

private:
    friend class World;
    struct State;
    explicit Request(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace aimerge
