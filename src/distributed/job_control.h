#pragma once
// The channel beside the work: notes of failure from rank to rank, and the meeting at the end of the job. It has a
// communicator of its own, so that a note is seen whatever the work is waiting for.

#include "aimerge/distributed/world.h"
#include "distributed/launcher.h"

#include <mpi.h>

#include <list>
#include <optional>
#include <string>
#include <utility>

namespace aimerge {

class JobControl {
public:
    /// Collective. @param patienceSeconds how long a rank without failures waits for the others
    /// @param launcher what endJob() ends, should MPI_Abort not be enough
    JobControl(int rank, int size, double patienceSeconds, std::optional<Launcher> launcher);

    int rank() const { return rank_; }
    int size() const { return size_; }
    double patienceSeconds() const { return patienceSeconds_; }

    /// Local: the first failure another rank has told of, once it has arrived.
    const std::optional<PeerFailed>& peerFailure();

    /// Sends the note to all others. Never blocks.
    void announceFailure(int exitCode, const std::string& message);

    struct Outcome {
        int exitCode;
        bool allIdle;  // no rank has an operation that never ended, so MPI_Finalize is safe
    };
    /// Collective. @param idle false when this rank left an operation unfinished
    /// Ends the whole job through MPI_Abort, and does not return, when a rank does not come in time.
    Outcome meet(int exitCode, bool idle);

    /// Collective. Called before MPI_Finalize.
    void release();

private:
    /// What ranks tell each other; `ownFailure` tells the rank where it began from those that only heard of it.
    struct Note {
        int exitCode = 0;
        bool ownFailure = false, idle = true;
        std::string message;
    };
    enum Tag { kFailureTag, kLeaveTag, kVerdictTag };

    void post(int to, Tag tag, const Note& note);
    std::optional<std::pair<int, Note>> poll(int from, Tag tag);
    Outcome collectAndDecide(int exitCode, bool idle);
    Outcome awaitVerdict(int exitCode, bool idle);
    void postVerdict(const Outcome& outcome);
    [[noreturn]] void endJob(int exitCode);
    double turnSeconds() const;

    int rank_, size_;
    double patienceSeconds_;
    std::optional<Launcher> launcher_;
    MPI_Comm communicator_ = MPI_COMM_NULL;
    std::optional<PeerFailed> peerFailure_;
    std::optional<Note> ownFailure_;
    struct Posted {
        std::string bytes;
        MPI_Request request;
    };
    std::list<Posted> posted_;  // never waited for: notes are short enough that MPI buffers them
};

}  // namespace aimerge
