#include "distributed/job_control.h"

#include "aimerge/core/error.h"
#include "aimerge/core/standard_streams.h"
#include "aimerge/distributed/patience.h"
#include "distributed/mpi_call.h"

#include <fmt/core.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

namespace aimerge {
namespace {

// With those below, a job whose network is cut has ended everywhere within 10 seconds of its deadline.
constexpr double kMeetingSeconds = 3;
// When rank 0 does not come, the lowest rank that is there ends the job: rank 1 waits so much
// longer, the last rank twice that.
constexpr double kTurnsSeconds = 1;
// MPI_Abort asks the launcher, and its daemon may be as lost as the other ranks are.
constexpr unsigned kAbortSeconds = 2;
// Below the eager limit of every transport, so that sending completes although nobody receives.
constexpr std::size_t kLongestMessage = 2000;

void printFailure(const PeerFailed& failure) {
    tellUser("aimerge: {} (rank {})\n", failure.message(), failure.rank());
}

}  // namespace

JobControl::JobControl(int rank, int size, double patienceSeconds, std::optional<Launcher> launcher)
    : rank_(rank), size_(size), patienceSeconds_(patienceSeconds), launcher_(std::move(launcher)) {
    checkMpi(MPI_Comm_dup(MPI_COMM_WORLD, &communicator_), "MPI_Comm_dup for the control channel");
}

void JobControl::post(int to, Tag tag, const Note& note) {
    const std::array<char, 3> header{static_cast<char>(note.exitCode), note.ownFailure, note.idle};
    Posted& posted = posted_.emplace_back(Posted{std::string(header.data(), header.size()), MPI_REQUEST_NULL});
    posted.bytes += note.message.substr(0, kLongestMessage);
    // On a network that is gone sending fails at once. The other rank has its own deadline.
    const int sent = MPI_Isend(posted.bytes.data(), static_cast<int>(posted.bytes.size()), MPI_BYTE, to, tag, communicator_,
                               &posted.request);
    if (sent != MPI_SUCCESS) posted_.pop_back();
}

std::optional<std::pair<int, JobControl::Note>> JobControl::poll(int from, Tag tag) {
    int arrived = 0, length = 0;
    MPI_Status status;
    checkMpi(MPI_Iprobe(from, tag, communicator_, &arrived, &status), "MPI_Iprobe for notes");
    if (!arrived) return std::nullopt;
    checkMpi(MPI_Get_count(&status, MPI_BYTE, &length), "MPI_Get_count of a note");
    std::string bytes(static_cast<std::size_t>(length), '\0');
    checkMpi(MPI_Recv(bytes.data(), length, MPI_BYTE, status.MPI_SOURCE, tag, communicator_, MPI_STATUS_IGNORE),
             "MPI_Recv of a note from rank {}", status.MPI_SOURCE);
    return std::pair{status.MPI_SOURCE,
                     Note{static_cast<unsigned char>(bytes.at(0)), bytes.at(1) != 0, bytes.at(2) != 0, bytes.substr(3)}};
}

const std::optional<PeerFailed>& JobControl::peerFailure() {
    while (const auto arrived = poll(MPI_ANY_SOURCE, kFailureTag)) {
        const auto& [from, note] = *arrived;
        if (!peerFailure_) peerFailure_.emplace(from, note.exitCode, note.message);
    }
    if (rank_ == 0 && peerFailure_) {
        // Rank 0 gets a verdict only when it was away too long: another rank has spoken and is ending the job.
        if (const auto verdict = poll(MPI_ANY_SOURCE, kVerdictTag)) std::_Exit(verdict->second.exitCode);
    }
    return peerFailure_;
}

void JobControl::announceFailure(int exitCode, const std::string& message) {
    ownFailure_ = Note{exitCode, true, true, message};
    for (int to = 0; to < size_; ++to) {
        if (to != rank_) post(to, kFailureTag, *ownFailure_);
    }
}

JobControl::Outcome JobControl::meet(int exitCode, bool idle) {
    return rank_ == 0 ? collectAndDecide(exitCode, idle) : awaitVerdict(exitCode, idle);
}

JobControl::Outcome JobControl::collectAndDecide(int exitCode, bool idle) {
    std::vector<std::optional<Note>> notes(static_cast<std::size_t>(size_));
    notes[0] = Note{exitCode, ownFailure_.has_value(), idle, ""};
    const auto here = [](const auto& note) { return note.has_value(); };
    const auto failed = [](const auto& note) { return note && note->exitCode != 0; };

    Patience patience(patienceSeconds_);
    bool hurrying = false, complete = false;
    while (!complete && !patience.exhausted()) {
        while (auto arrived = poll(MPI_ANY_SOURCE, kLeaveTag)) {
            notes[static_cast<std::size_t>(arrived->first)] = std::move(arrived->second);
        }
        complete = std::all_of(notes.begin(), notes.end(), here);
        if (!hurrying && (peerFailure() || std::any_of(notes.begin(), notes.end(), failed))) {
            hurrying = true;
            patience.shortenTo(kMeetingSeconds);
        }
        if (!complete) patience.pause();
    }

    Outcome outcome{exitCode, complete};
    int firstCode = 0;
    for (int from = 0; from < size_; ++from) {
        const auto& note = notes[static_cast<std::size_t>(from)];
        if (!note) continue;
        outcome.allIdle = outcome.allIdle && note->idle;
        if (firstCode == 0) firstCode = note->exitCode;
        if (note->ownFailure && !peerFailure_) peerFailure_.emplace(from, note->exitCode, note->message);
    }
    if (exitCode == 0 && peerFailure_) {  // rank 0 had finished its own work and has not spoken
        printFailure(*peerFailure_);
        outcome.exitCode = peerFailure_->exitCode();
    } else if (exitCode == 0) {
        outcome.exitCode = firstCode;
    }
    if (!complete && outcome.exitCode == 0) {
        const auto absent = std::find_if_not(notes.begin(), notes.end(), here) - notes.begin();
        tellUser("aimerge: rank {} has not come to the end of the job for {:g} s (AIMERGE_COLLECTIVE_TIMEOUT)\n", absent,
                 patienceSeconds_);
        outcome.exitCode = static_cast<int>(ExitCode::Fault);
    }
    if (!complete) endJob(outcome.exitCode);
    postVerdict(outcome);
    return outcome;
}

JobControl::Outcome JobControl::awaitVerdict(int exitCode, bool idle) {
    Note own = ownFailure_.value_or(Note{});
    own.exitCode = exitCode;
    own.idle = idle;
    post(0, kLeaveTag, own);

    const double turn = turnSeconds();
    Patience patience(patienceSeconds_ + turn);
    bool hurrying = false;
    while (!patience.exhausted()) {
        if (const auto verdict = poll(MPI_ANY_SOURCE, kVerdictTag)) return {verdict->second.exitCode, verdict->second.idle};
        if (!hurrying && (exitCode != 0 || peerFailure())) {
            hurrying = true;
            patience.shortenTo(turn);
        }
        patience.pause();
    }

    // Rank 0 is not there to say what happened.
    if (ownFailure_) {
        printFailure({rank_, exitCode, ownFailure_->message});
    } else if (peerFailure_) {
        printFailure(*peerFailure_);
        exitCode = peerFailure_->exitCode();
    } else if (exitCode == 0) {
        printFailure({rank_, 0, fmt::format("rank 0 has not come to the end of the job for {:g} s", patienceSeconds_)});
        exitCode = static_cast<int>(ExitCode::Fault);
    }
    endJob(exitCode);
}

double JobControl::turnSeconds() const {
    const double place = size_ > 2 ? (rank_ - 1.0) / (size_ - 2) : 0;
    return kMeetingSeconds + kTurnsSeconds * (1 + place);
}

void JobControl::postVerdict(const Outcome& outcome) {
    for (int to = 0; to < size_; ++to) {
        if (to != rank_) post(to, kVerdictTag, Note{outcome.exitCode, false, outcome.allIdle, ""});
    }
}

void JobControl::endJob(int exitCode) {
    postVerdict({exitCode, false});  // so that no other rank speaks too
    std::fflush(nullptr);
    leaveMpiBehind(launcher_);
    std::signal(SIGALRM, SIG_DFL);
    ::alarm(kAbortSeconds);
    MPI_Abort(communicator_, exitCode);
    std::_Exit(exitCode);
}

void JobControl::release() {
    for (Posted& posted : posted_) {
        checkMpi(MPI_Wait(&posted.request, MPI_STATUS_IGNORE), "MPI_Wait for a note");
    }
    peerFailure();  // receives what was not asked for, because MPI_Finalize wants every message received
    checkMpi(MPI_Comm_free(&communicator_), "MPI_Comm_free of the control channel");
}

}  // namespace aimerge
