#include "aimerge/core/thread_pool.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace aimerge {

struct ThreadPool::Shared {
    using Work = std::function<void(std::size_t, int)>;

    /// Takes indices until none is left or one failed.
    void share(int worker) {
        while (!failed.load(std::memory_order_relaxed)) {
            const std::size_t index = next.fetch_add(1, std::memory_order_relaxed);
            if (index >= count) return;
            try {
                (*work)(index, worker);
            } catch (...) {  // carried to the caller of forEach, whatever it is
                const std::lock_guard lock(mutex);
                if (!failure || index < failedIndex) {
                    failure = std::current_exception();
                    failedIndex = index;
                }
                failed.store(true, std::memory_order_relaxed);
            }
        }
    }

    void runWorker(int worker) {
        std::uint64_t seenRound = 0;
        std::unique_lock lock(mutex);
        while (true) {
            roundBegins.wait(lock, [&] { return stopping || round != seenRound; });
            if (stopping) return;
            seenRound = round;
            lock.unlock();
            share(worker);
            lock.lock();
            if (--busyWorkers == 0) roundEnds.notify_one();
        }
    }

    void stop() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        roundBegins.notify_all();
        for (std::thread& thread : workers) thread.join();
    }

    std::mutex mutex;
    std::condition_variable roundBegins, roundEnds;
    std::vector<std::thread> workers;  // all but worker 0
    std::uint64_t round = 0;
    std::size_t busyWorkers = 0;
    bool stopping = false;

    // Set before a round begins, under the mutex; constant while it runs.
    const Work* work = nullptr;
    std::size_t count = 0;

    // Indices are taken in ascending order and an index taken is run, so the lowest failing index is always reached first
    // or with those above it: which exception is rethrown does not depend on timing.
    std::atomic<std::size_t> next = 0;
    std::atomic<bool> failed = false;
    std::exception_ptr failure;
    std::size_t failedIndex = 0;
};

ThreadPool::ThreadPool(int threads) : shared_(std::make_unique<Shared>()) {
    if (threads < 1) throw UsageError("{} threads were asked for; at least 1 is needed", threads);
    shared_->workers.reserve(static_cast<std::size_t>(threads) - 1);
    try {
        for (int worker = 1; worker < threads; ++worker)
            shared_->workers.emplace_back([shared = shared_.get(), worker] { shared->runWorker(worker); });
    } catch (const std::system_error& error) {
        const std::size_t started = shared_->workers.size() + 1;
        shared_->stop();
        throw RuntimeFault("only {} of {} threads could be started: {}; give a smaller number of threads", started, threads,
                           error.what());
    }
}

ThreadPool::~ThreadPool() {
    shared_->stop();
}

int ThreadPool::threads() const {
    return static_cast<int>(shared_->workers.size()) + 1;
}

void ThreadPool::forEach(std::size_t count, const std::function<void(std::size_t index, int worker)>& work) {
    if (count == 0) return;
    if (count == 1 || shared_->workers.empty()) {  // nothing to share: do not wake anybody
        for (std::size_t index = 0; index < count; ++index) work(index, 0);
        return;
    }
    Shared& shared = *shared_;
    {
        const std::lock_guard lock(shared.mutex);
        shared.work = &work;
        shared.count = count;
        shared.next.store(0, std::memory_order_relaxed);
        shared.failed.store(false, std::memory_order_relaxed);
        shared.failure = nullptr;
        shared.busyWorkers = shared.workers.size();
        ++shared.round;
    }
    shared.roundBegins.notify_all();
    shared.share(0);

    std::unique_lock lock(shared.mutex);
    shared.roundEnds.wait(lock, [&] { return shared.busyWorkers == 0; });
    if (shared.failure) std::rethrow_exception(std::exchange(shared.failure, nullptr));
}

}  // namespace aimerge
