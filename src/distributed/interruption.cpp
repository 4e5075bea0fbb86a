#include "aimerge/distributed/interruption.h"

#include "aimerge/core/error.h"
#include "aimerge/distributed/world.h"

#include <signal.h>
#include <unistd.h>

#include <initializer_list>

namespace aimerge {
namespace {

volatile sig_atomic_t requested = 0;
volatile sig_atomic_t endAsked = 0;  // by SIGTERM or SIGINT

thread_local StopRequest* ofThisThread = nullptr;

void note(int signal) {
    if (signal == SIGTERM || signal == SIGINT) {
        if (endAsked) _exit(static_cast<int>(ExitCode::Interrupted));
        endAsked = 1;
    }
    requested = 1;
}

bool isStopAsked() {
    return ofThisThread != nullptr && ofThisThread->isAsked();
}

/// Another rank may have had the signal.
[[noreturn]] void stop() {
    if (isStopAsked()) throw Interrupted("stopped; what is finished is kept, the same call goes on from there");
    throw Interrupted("interrupted by a signal; what is finished is kept, run the same command again to continue");
}

}  // namespace

void installInterruptionHandlers() {
    struct sigaction action {};
    action.sa_handler = note;
    action.sa_flags = SA_RESTART;  // reads and writes go on to the next safe point
    sigemptyset(&action.sa_mask);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
    struct sigaction before {};
    sigaction(SIGHUP, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(SIGHUP, &action, nullptr);  // which nohup ignores
    ::signal(SIGXFSZ, SIG_IGN);  // a write beyond `ulimit -f` is an error of that write
}

StopRequest::StopRequest() : outer_(ofThisThread) {
    ofThisThread = this;
}

StopRequest::~StopRequest() {
    ofThisThread = outer_;
}

bool interruptionRequested() {
    return requested != 0 || isStopAsked();
}

bool askedToEnd() {
    return endAsked != 0;
}

void throwIfInterrupted() {
    if (interruptionRequested()) stop();
}

void throwIfAnyInterrupted(World& world) {
    if (world.any(interruptionRequested())) stop();
}

}  // namespace aimerge
