#pragma once
// At most one job works on an output at a time. The lock is a file held by flock(), which the kernel releases when the
// process dies, however it dies; the file's text tells a refused second job who holds it.

#include "aimerge/core/file.h"

#include <filesystem>
#include <optional>
#include <string>

namespace aimerge {

/// Move-only; the lock is held and its file is there as long as this object lives.
class JobLock {
public:
    /// Never waits. @param command the command line, for the text
    /// @throws UsageError naming the holder (host, pid, start, Slurm job, command) when another process has the lock;
    ///         RuntimeFault when the file system has no locks
    static JobLock acquire(const std::filesystem::path& path, const std::string& command);

    /// nullopt when another process has the lock. @throws RuntimeFault when the file system has no locks
    static std::optional<JobLock> tryAcquire(const std::filesystem::path& path, const std::string& command);

    /// "host n1, pid 7, since ..., Slurm job 42 (aimerge merge ...)": whoever has the lock at this path
    static std::string holderOf(const std::filesystem::path& path);

    JobLock(JobLock&&) noexcept = default;
    JobLock& operator=(JobLock&&) = delete;
    ~JobLock();

private:
    explicit JobLock(File file) : file_(std::move(file)) {}

    File file_;
};

}  // namespace aimerge
