#pragma once
// Deadline of an MPI call that blocks and cannot be polled: MPI_Init_thread, MPI_Finalize, and making communicators.

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace aimerge {

/// While it lives, a thread waits; when that is too long, it calls `onExpiry`, which ends the process.
class BlockingCall {
public:
    BlockingCall(double seconds, std::function<void()> onExpiry)
        : thread_([this, seconds, onExpiry = std::move(onExpiry)] {
              std::unique_lock lock(mutex_);
              if (!returned_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return hasReturned_; }))
                  onExpiry();
          }) {}
    ~BlockingCall() {
        {
            const std::scoped_lock lock(mutex_);
            hasReturned_ = true;
        }
        returned_.notify_one();
        thread_.join();
    }
    BlockingCall(const BlockingCall&) = delete;
    BlockingCall& operator=(const BlockingCall&) = delete;

private:
    std::mutex mutex_;
    std::condition_variable returned_;
    bool hasReturned_ = false;
    std::thread thread_;  // last: it uses the others
};

}  // namespace aimerge
