#pragma once
// One call of a function of the package, on a thread of its own. Python's thread waits for it in short turns, between which
// the interpreter looks at its signals.

#include "python/functions.h"
#include "python/log_lines.h"

#include "aimerge/distributed/interruption.h"

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace aimerge {

/// All functions may be called on any thread.
class JobThread {
public:
    /// Starts it. The signals of the process stay with the interpreter's threads.
    /// @param request JSON text, with the `log_level` from which on lines are kept (spdlog's name of it)
    JobThread(std::string function, std::string request);
    /// Asks for the end and waits for it.
    ~JobThread();
    JobThread(const JobThread&) = delete;
    JobThread& operator=(const JobThread&) = delete;

    /// The job ends at its next safe point.
    void stop();

    /// Returns when there is progress to tell or the job has ended, at the latest after `patience`. JSON: `progress` and
    /// `log`, lists of what is new; once it has ended `ended`, `result` and `error`, each perhaps null.
    const std::string& wait(std::chrono::milliseconds patience);

    /// When the job has ended.
    const std::vector<float>& values() const { return result_.values; }
    const std::byte* bytes() const { return result_.bytes.get(); }

private:
    void run();
    void hear(const ProgressState& state);

    std::string function_, request_;
    std::mutex mutex_;
    std::condition_variable news_;
    std::vector<ProgressState> progress_;
    bool stopAsked_ = false, ended_ = false;
    StopRequest* stop_ = nullptr;  // while the job runs
    FunctionResult result_;
    nlohmann::ordered_json error_;
    std::string told_;
    std::thread thread_;
};

}  // namespace aimerge
