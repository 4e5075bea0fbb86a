#include "python/job_thread.h"

#include "aimerge/core/error.h"
#include "aimerge/job/failure.h"

#include <signal.h>

#include <utility>

namespace aimerge {
namespace {

using nlohmann::ordered_json;

/// While it lives, threads that this one starts take no signal of the process. What a fault of their own raises they still take.
class SignalsElsewhere {
public:
    SignalsElsewhere() {
        sigset_t all;
        ::sigfillset(&all);
        for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) ::sigdelset(&all, own);
        ::pthread_sigmask(SIG_BLOCK, &all, &before_);
    }
    ~SignalsElsewhere() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsElsewhere(const SignalsElsewhere&) = delete;
    SignalsElsewhere& operator=(const SignalsElsewhere&) = delete;

private:
    sigset_t before_{};
};

ordered_json jsonOf(const ProgressState& state) {
    return {{"phase", state.phase},
            {"items", state.items},
            {"done", state.done},
            {"total", state.total},
            {"done_bytes", state.doneBytes},
            {"total_bytes", state.totalBytes},
            {"seconds", state.seconds},
            {"last", state.last}};
}

}  // namespace

JobThread::JobThread(std::string function, std::string request)
    : function_(std::move(function)), request_(std::move(request)) {
    const SignalsElsewhere signals;
    thread_ = std::thread([this] { run(); });
}

JobThread::~JobThread() {
    stop();
    thread_.join();
}

void JobThread::stop() {
    const std::lock_guard lock(mutex_);
    stopAsked_ = true;
    if (stop_) stop_->ask();
}

void JobThread::run() {
    StopRequest stop;
    {
        const std::lock_guard lock(mutex_);
        stop_ = &stop;
        if (stopAsked_) stop.ask();
    }
    FunctionResult result;
    ordered_json error;
    try {
        const auto request = nlohmann::json::parse(request_);
        keepLogLines(spdlog::level::from_str(request.at("log_level").get<std::string>()));
        runFunction(function_, request, ProgressListener([this](const ProgressState& state) { hear(state); }), result);
    } catch (const std::exception& cause) {
        const Failure failure = failureOf(cause);
        error = {{"code", static_cast<int>(failure.code)}, {"message", failure.message}};
    }
    const std::lock_guard lock(mutex_);
    stop_ = nullptr;
    result_ = std::move(result);
    error_ = std::move(error);
    ended_ = true;
    news_.notify_all();
}

void JobThread::hear(const ProgressState& state) {
    const std::lock_guard lock(mutex_);
    const bool replaces = !progress_.empty() && !progress_.back().last && progress_.back().phase == state.phase;
    if (replaces)
        progress_.back() = state;
    else
        progress_.push_back(state);
    news_.notify_all();
}

const std::string& JobThread::wait(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    news_.wait_for(lock, patience, [this] { return ended_ || !progress_.empty(); });
    ordered_json news{{"progress", ordered_json::array()}, {"log", ordered_json::array()}, {"ended", ended_}};
    for (const ProgressState& state : std::exchange(progress_, {})) news["progress"].push_back(jsonOf(state));
    for (const LogLine& line : takeLogLines()) news["log"].push_back({line.level, line.text});
    if (ended_) {
        news["result"] = result_.json;
        news["error"] = error_;
    }
    // Names of files may be no UTF-8.
    told_ = news.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
    return told_;
}

}  // namespace aimerge
