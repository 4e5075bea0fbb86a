#pragma once
// A fixed set of worker threads that share out numbered pieces of work. The calling thread is worker 0.

#include <cstddef>
#include <functional>
#include <memory>

namespace aimerge {

class ThreadPool {
public:
    /// @pre threads >= 1
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const;

    /// Calls work(index, worker) for every index in [0, count), in ascending order of start, each once, and returns when
    /// all are done. Results must not depend on which worker runs an index. After an exception no further index starts;
    /// the exception of the lowest failed index is rethrown. Not reentrant.
    void forEach(std::size_t count, const std::function<void(std::size_t index, int worker)>& work);

private:
    struct Shared;
    std::unique_ptr<Shared> shared_;
};

}  // namespace aimerge
