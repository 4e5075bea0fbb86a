#include "aimerge/distributed/world.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/standard_streams.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/patience.h"
#include "distributed/blocking_call.h"
#include "distributed/job_control.h"
#include "distributed/mpi_call.h"
#include "distributed/node_ranks.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

namespace aimerge {
namespace {

// A message on its way when its request goes needs both ranks to look after it; they do, in leave().
constexpr double kCancelSeconds = 1;
// Slurm has 30 s between SIGTERM and SIGKILL (KillWait), in which all ranks are to end in good order.
constexpr double kSecondsAfterTerm = 5;
// By now every rank has said that it is done. Finalizing takes milliseconds, on thousands of ranks a few seconds.
constexpr double kFinalizeSeconds = 60;
constexpr double kLauncherSeconds = 3, kLauncherSecondsAfterFailure = 7, kLauncherSecondsAfterAbort = 2;
// Where MPI itself stands still, ranks cannot hear of each other: they leave it to rank 0 to say so, unless it does not end
// the job.
constexpr double kWaitForRootSeconds = 2;
// The user's tags are for send() and receive(); gather() has a communicator to itself.
constexpr int kSizeTag = 0, kTextTag = 1;

/// Calls visit(first byte, bytes) for every chunk; once for an empty message.
template <typename Visit>
void forEachChunk(std::size_t bytes, Visit visit) {
    std::size_t first = 0;
    do {
        const std::size_t length = std::min(bytes - first, World::kChunkBytes);
        visit(first, static_cast<int>(length));
        first += length;
    } while (first < bytes);
}

void requirePeer(const World& world, int peer) {
    if (peer < 0 || peer >= world.size() || peer == world.rank()) {
        throw RuntimeFault("message between rank {} and rank {} in a job of {} ranks", world.rank(), peer, world.size());
    }
}

double waitForRootSeconds(int rank) {
    return rank == 0 ? 0 : kWaitForRootSeconds;
}

/// "Open MPI v4.1.4"
std::string mpiLibrary() {
    std::string text(MPI_MAX_LIBRARY_VERSION_STRING, '\0');
    int length = 0;
    MPI_Get_library_version(text.data(), &length);
    return text.substr(0, std::min(text.find(','), static_cast<std::size_t>(length)));
}

}  // namespace

/// Without a launcher `control` is empty, and there is one rank.
struct World::Impl {
    std::optional<JobControl> control;
    std::optional<Launcher> launcher;
    NodeRanks onNode = aloneOnThisMachine();
    MPI_Comm messages = MPI_COMM_NULL;     // send(), receive()
    MPI_Comm collectives = MPI_COMM_NULL;  // the rest
    bool abandoned = false;                // an operation never ended
    // Buffers of collectives live here: after an abandoned one MPI may still write to them.
    std::int64_t value = 0, largest = 0;
    std::uint64_t textBytes = 0;
    std::string text;

    void start(int& argc, char**& argv);
    int leave(int exitCode);
    void finalize(int exitCode);
    double finalizeSeconds() const { return std::min(control->patienceSeconds(), kFinalizeSeconds); }
    /// The launcher, where nothing lies between it and this rank.
    std::optional<Launcher> parentLauncher() const { return launcher && launcher->isParent() ? launcher : std::nullopt; }
    /// What the launcher may take to end when its ranks have.
    double secondsForLauncher(const JobControl::Outcome& outcome) const;
    /// Where MPI does not come back. Called by another thread, so MPI_Abort is not for this.
    [[noreturn]] void endProcess(int exitCode);
    /// Polls done() until it says true. @param purpose of the wait, for the error line
    template <typename Done>
    void waitUntil(Done done, std::string_view purpose);
    void completeCollective(MPI_Request request, std::string_view purpose);
    std::unique_ptr<Request::State> transfer(MPI_Comm communicator, int peer, int tag, std::span<const std::byte> bytes);
    std::unique_ptr<Request::State> transfer(MPI_Comm communicator, int peer, int tag, std::span<std::byte> bytes);
};

struct World::Request::State {
    World::Impl& world;
    std::string purpose;  // for error lines
    bool receiving;
    std::uint64_t bytes;
    std::vector<MPI_Request> chunks = {};

    bool done();
    /// Cancels what is pending. Sets World::Impl::abandoned when it cannot be brought to an end.
    void cancel() noexcept;
};

void World::Impl::start(int& argc, char**& argv) {
    const double patienceSeconds = environment::collectiveTimeoutSeconds();
    int size = 1, rank = 0;
    if (environment::startedByMpiLauncher()) {
        int provided = 0;
        launcher = Launcher::ofThisProcess();
        const BlockingCall deadline(patienceSeconds + waitForRootSeconds(environment::launchedRank()), [&] {
            tellUser(
                "aimerge: the ranks have not come together for {:g} s: one of them hangs or its machine is gone "
                "(AIMERGE_COLLECTIVE_TIMEOUT sets the wait)\n",
                patienceSeconds);
            endProcess(static_cast<int>(ExitCode::Fault));
        });
        checkMpi(MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
        checkMpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
        checkMpi(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
        checkMpi(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
        control.emplace(rank, size, patienceSeconds, launcher);
        checkMpi(MPI_Comm_dup(MPI_COMM_WORLD, &messages), "MPI_Comm_dup for messages");
        checkMpi(MPI_Comm_dup(MPI_COMM_WORLD, &collectives), "MPI_Comm_dup for collectives");
        onNode = ranksOfThisMachine();
    }
    if (size == 1 && environment::slurmStepTasks() > 1) {
        throw UsageError("srun started {} tasks that do not know of each other: use srun --mpi=pmix",
                         environment::slurmStepTasks());
    }
    if (size == 1 && environment::launchedProcesses() > 1) {
        throw UsageError(
            "the launcher started {} processes that do not know of each other: it belongs to another MPI (MPICH, Intel MPI, "
            "MVAPICH, or another version of Open MPI) than the one that aimerge was built with; use the mpirun of {}",
            environment::launchedProcesses(), mpiLibrary());
    }
}

int World::Impl::leave(int exitCode) {
    const JobControl::Outcome outcome = control->meet(exitCode, !abandoned);
    // The launcher may be about to lose a machine, with nobody left to notice. Where it started a script, it may have more
    // to do.
    if (parentLauncher() && onNode.own == 0) launcher->endSoon(secondsForLauncher(outcome));
    if (outcome.allIdle)
        finalize(outcome.exitCode);
    else
        removeSharedMemory();
    return outcome.exitCode;
}

void World::Impl::finalize(int exitCode) {
    const double seconds = finalizeSeconds();
    const BlockingCall deadline(seconds + waitForRootSeconds(control->rank()), [this, exitCode, seconds] {
        tellUser("aimerge: rank {} is done, but MPI_Finalize has not come back for {:g} s: another machine is gone\n",
                 control->rank(), seconds);
        endProcess(exitCode);
    });
    control->release();
    checkMpi(MPI_Comm_free(&messages), "MPI_Comm_free of messages");
    checkMpi(MPI_Comm_free(&collectives), "MPI_Comm_free of collectives");
    checkMpi(MPI_Finalize(), "MPI_Finalize");
}

double World::Impl::secondsForLauncher(const JobControl::Outcome& outcome) const {
    if (!outcome.allIdle) return kLauncherSecondsAfterAbort;
    return outcome.exitCode == 0 ? finalizeSeconds() + kLauncherSeconds : kLauncherSecondsAfterFailure;
}

void World::Impl::endProcess(int exitCode) {
    std::fflush(nullptr);
    leaveMpiBehind(parentLauncher());
    std::_Exit(exitCode);
}

template <typename Done>
void World::Impl::waitUntil(Done done, std::string_view purpose) {
    Patience patience(control->patienceSeconds());
    bool hurrying = false;
    while (!done()) {
        if (const auto& failure = control->peerFailure()) throw *failure;
        if (!hurrying && askedToEnd()) {  // by a launcher, perhaps, that knows of the lost rank
            hurrying = true;
            patience.shortenTo(kSecondsAfterTerm);
        }
        if (patience.exhausted()) {
            if (hurrying) throwIfInterrupted();
            throw RuntimeFault(
                "no progress from another rank for {:g} s in {}: it hangs or its machine is gone "
                "(AIMERGE_COLLECTIVE_TIMEOUT sets the wait)",
                patience.seconds(), purpose);
        }
        patience.pause();
    }
}

void World::Impl::completeCollective(MPI_Request request, std::string_view purpose) {
    abandoned = true;  // unless it ends below: MPI has no way to cancel a collective
    waitUntil(
        [&] {
            int done = 0;
            checkMpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "{}", purpose);
            return done != 0;
        },
        purpose);
    abandoned = false;
}

std::unique_ptr<World::Request::State> World::Impl::transfer(MPI_Comm communicator, int to, int tag,
                                                             std::span<const std::byte> bytes) {
    auto state = std::make_unique<Request::State>(
        Request::State{*this, fmt::format("MPI_Isend of {} bytes to rank {}", bytes.size(), to), false, bytes.size()});
    forEachChunk(bytes.size(), [&](std::size_t first, int length) {
        checkMpi(MPI_Isend(bytes.data() + first, length, MPI_BYTE, to, tag, communicator, &state->chunks.emplace_back()),
                 "{}", state->purpose);
    });
    return state;
}

std::unique_ptr<World::Request::State> World::Impl::transfer(MPI_Comm communicator, int from, int tag,
                                                             std::span<std::byte> bytes) {
    auto state = std::make_unique<Request::State>(
        Request::State{*this, fmt::format("MPI_Irecv of {} bytes from rank {}", bytes.size(), from), true, bytes.size()});
    forEachChunk(bytes.size(), [&](std::size_t first, int length) {
        checkMpi(MPI_Irecv(bytes.data() + first, length, MPI_BYTE, from, tag, communicator, &state->chunks.emplace_back()),
                 "{}", state->purpose);
    });
    return state;
}

World::World(int& argc, char**& argv) : impl_(std::make_unique<Impl>()) {
    try {
        impl_->start(argc, argv);
    } catch (const RuntimeFault&) {  // of MPI
        leaveMpiBehind(impl_->parentLauncher());
        throw;
    }
}

World::World(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

World World::alone() {
    const int processes = std::max(environment::launchedProcesses(), environment::slurmStepTasks());
    if (processes > 1)
        throw UsageError(
            "the launcher has started {} processes, and each of them would do the whole job: start one, or run the aimerge "
            "program on all ranks",
            processes);
    return World(std::make_unique<Impl>());
}

World::World(World&&) noexcept = default;
World::~World() = default;

int World::rank() const {
    return impl_->control ? impl_->control->rank() : 0;
}

int World::size() const {
    return impl_->control ? impl_->control->size() : 1;
}

int World::ranksOnNode() const {
    return impl_->onNode.count;
}

int World::rankOnNode() const {
    return impl_->onNode.own;
}

int World::processorsOfRank() const {
    return impl_->onNode.processors;
}

void World::barrier() {
    if (size() == 1) return;
    throwIfPeerFailed();
    MPI_Request request = MPI_REQUEST_NULL;
    checkMpi(MPI_Ibarrier(impl_->collectives, &request), "MPI_Ibarrier");
    impl_->completeCollective(request, "MPI_Ibarrier");
}

std::string World::broadcast(std::string text) {
    if (size() == 1) return text;
    throwIfPeerFailed();
    Impl& impl = *impl_;
    impl.text = std::move(text);
    impl.textBytes = impl.text.size();
    MPI_Request request = MPI_REQUEST_NULL;
    checkMpi(MPI_Ibcast(&impl.textBytes, 1, MPI_UINT64_T, 0, impl.collectives, &request), "MPI_Ibcast of a size");
    impl.completeCollective(request, "MPI_Ibcast of a size");
    impl.text.resize(impl.textBytes);
    forEachChunk(impl.text.size(), [&](std::size_t first, int bytes) {
        checkMpi(MPI_Ibcast(impl.text.data() + first, bytes, MPI_BYTE, 0, impl.collectives, &request),
                 "MPI_Ibcast of {} bytes", bytes);
        impl.completeCollective(request, "MPI_Ibcast of a text");
    });
    return std::exchange(impl.text, {});
}

std::int64_t World::maximum(std::int64_t value) {
    if (size() == 1) return value;
    throwIfPeerFailed();
    Impl& impl = *impl_;
    impl.value = value;
    MPI_Request request = MPI_REQUEST_NULL;
    checkMpi(MPI_Iallreduce(&impl.value, &impl.largest, 1, MPI_INT64_T, MPI_MAX, impl.collectives, &request),
             "MPI_Iallreduce(MAX)");
    impl.completeCollective(request, "MPI_Iallreduce(MAX)");
    return impl.largest;
}

std::vector<std::string> World::gather(const std::string& text) {
    if (size() == 1) return {text};
    throwIfPeerFailed();
    Impl& impl = *impl_;
    const auto exchange = [&](int peer, int tag, auto bytes) {
        Request(impl.transfer(impl.collectives, peer, tag, bytes)).wait();
    };
    if (!isRoot()) {
        const std::uint64_t bytes = text.size();
        exchange(0, kSizeTag, std::as_bytes(std::span(&bytes, 1)));
        exchange(0, kTextTag, std::as_bytes(std::span(text)));
        return {};
    }
    std::vector<std::string> texts(static_cast<std::size_t>(size()));
    texts[0] = text;
    for (int from = 1; from < size(); ++from) {
        std::string& received = texts[static_cast<std::size_t>(from)];
        std::uint64_t bytes = 0;
        exchange(from, kSizeTag, std::as_writable_bytes(std::span(&bytes, 1)));
        received.resize(bytes);
        exchange(from, kTextTag, std::as_writable_bytes(std::span(received)));
    }
    return texts;
}

World::Request World::send(int to, int tag, std::span<const std::byte> bytes) {
    requirePeer(*this, to);
    throwIfPeerFailed();
    return Request(impl_->transfer(impl_->messages, to, tag, bytes));
}

World::Request World::receive(int from, int tag, std::span<std::byte> bytes) {
    requirePeer(*this, from);
    throwIfPeerFailed();
    return Request(impl_->transfer(impl_->messages, from, tag, bytes));
}

void World::throwIfPeerFailed() {
    if (!impl_->control) return;
    if (const auto& failure = impl_->control->peerFailure()) throw *failure;
}

void World::reportFailure(int exitCode, const std::string& message) {
    if (impl_->control) impl_->control->announceFailure(exitCode, message);
}

int World::leave(int exitCode) {
    if (!impl_->control) return exitCode;
    try {
        return impl_->leave(exitCode);
    } catch (const RuntimeFault& fault) {  // MPI itself fails, on a network that is gone
        if (exitCode == 0) tellUser("aimerge: {} (rank {})\n", fault.what(), rank());
        impl_->endProcess(exitCode == 0 ? static_cast<int>(ExitCode::Fault) : exitCode);
    }
}

World::Request::Request() = default;
World::Request::Request(std::unique_ptr<State> state) : state_(std::move(state)) {}
World::Request::Request(Request&&) noexcept = default;

World::Request::~Request() {
    if (active()) state_->cancel();
}

World::Request& World::Request::operator=(Request&& other) noexcept {
    if (this != &other) {
        if (active()) state_->cancel();
        state_ = std::move(other.state_);
    }
    return *this;
}

bool World::Request::active() const {
    return state_ != nullptr;
}

bool World::Request::test() {
    if (active() && state_->done()) state_.reset();
    return !active();
}

void World::Request::wait() {
    if (!active()) return;
    state_->world.waitUntil([this] { return state_->done(); }, state_->purpose);
    state_.reset();
}

bool World::Request::State::done() {
    int done = 0;
    std::vector<MPI_Status> statuses(chunks.size());
    const int result = MPI_Testall(static_cast<int>(chunks.size()), chunks.data(), &done, statuses.data());
    if (result == MPI_ERR_IN_STATUS) {
        for (const MPI_Status& status : statuses) {
            if (status.MPI_ERROR != MPI_ERR_PENDING) checkMpi(status.MPI_ERROR, "{}", purpose);
        }
    }
    checkMpi(result, "{}", purpose);
    if (!done || !receiving) return done != 0;
    std::uint64_t received = 0;
    for (const MPI_Status& status : statuses) {
        int length = 0;
        checkMpi(MPI_Get_count(&status, MPI_BYTE, &length), "MPI_Get_count");
        received += static_cast<std::uint64_t>(length);
    }
    if (received != bytes) throw RuntimeFault("{}: the message has {} bytes", purpose, received);
    return true;
}

void World::Request::State::cancel() noexcept {
    if (receiving) {
        for (MPI_Request& chunk : chunks) {
            if (chunk != MPI_REQUEST_NULL) MPI_Cancel(&chunk);
        }
    }
    Patience patience(world.abandoned ? 0 : kCancelSeconds);
    int done = 0;
    while (MPI_Testall(static_cast<int>(chunks.size()), chunks.data(), &done, MPI_STATUSES_IGNORE) == MPI_SUCCESS && !done &&
           !patience.exhausted()) {
        patience.pause();
    }
    if (!done) world.abandoned = true;
}

}  // namespace aimerge
