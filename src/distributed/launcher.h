#pragma once
// mpirun, seen from the ranks that it started. When the network to a machine is gone, mpirun waits for that machine's daemon
// to end its ranks (a quarter of an hour, until TCP gives up), and the daemon for mpirun's word; so a rank that ends the job
// has to end them too.

#include <sys/types.h>

#include <optional>
#include <string>

namespace aimerge {

/// The process that started this rank, if it serves this job and nothing else: the mpirun that is our ancestor, or on other
/// machines the daemon (orted) that it started there. Not slurmstepd or a daemon that may serve many jobs (prted): they
/// belong to somebody else.
class Launcher {
public:
    /// Local. Empty where the launcher is of another kind, and where all ranks are on one machine:
    /// there mpirun ends by itself.
    static std::optional<Launcher> ofThisProcess();

    /// False where a script or a container lies between the launcher and this rank: the end of the rank need not be that of
    /// the job.
    bool isParent() const { return isParent_; }

    /// Leaves a process behind that gives the launcher some time to end by itself, then asks it to (SIGTERM),
    /// and ends it by force 3 s later. A launcher that had to be asked may leave its session folder, which is
    /// then removed. Returns at once.
    void endSoon(double patienceSeconds) const;

private:
    Launcher(pid_t pid, std::string started, std::string sessionFolder, bool isParent)
        : pid_(pid), started_(std::move(started)), sessionFolder_(std::move(sessionFolder)), isParent_(isParent) {}

    pid_t pid_;
    std::string started_;        // when, in the kernel's words: another process may get its number
    std::string sessionFolder_;  // of mpirun's files; empty where unknown
    bool isParent_;
};

/// Removes the shared memory of this machine's ranks: without MPI_Finalize they leave that to the
/// launcher, which may be gone.
void removeSharedMemory();

/// For a process that is about to end, in whatever state MPI is: sees to the launcher, and removes the shared memory.
void leaveMpiBehind(const std::optional<Launcher>& launcher);

}  // namespace aimerge
