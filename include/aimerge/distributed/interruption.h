#pragma once
// A request to stop (SIGTERM, SIGINT, SIGUSR1) is noted by a handler and honoured at the next safe point, where what is done
// stands on disk and a rerun continues. It ends the job with exit code 75.

#include <atomic>

namespace aimerge {

class World;

/// For a process that runs jobs on several threads: asking it ends the job of the thread that has made it known, at its next
/// safe point, as a signal would. The constructor is called on the thread that runs the job; ask() on any.
class StopRequest {
public:
    StopRequest();
    ~StopRequest();
    StopRequest(const StopRequest&) = delete;
    StopRequest& operator=(const StopRequest&) = delete;
    void ask() { asked_ = true; }
    bool isAsked() const { return asked_; }

private:
    std::atomic<bool> asked_{false};
    StopRequest* outer_;
};

/// Called first in main(), before MPI: a second SIGTERM or SIGINT ends the process at once, also with code 75.
void installInterruptionHandlers();

/// Local. True after a signal to this process, or when the job of this thread is to stop.
bool interruptionRequested();

/// Local. True when that was SIGTERM or SIGINT, so that SIGKILL may follow.
bool askedToEnd();

/// Local. For safe points inside work that ranks do each on their own: the others are stopped by reportFailure().
/// @throws Interrupted after a signal to this process
void throwIfInterrupted();

/// Collective. For safe points that all ranks pass together: a signal to any of them stops all.
/// @throws Interrupted on every rank after a signal to any of them
void throwIfAnyInterrupted(World& world);

}  // namespace aimerge
