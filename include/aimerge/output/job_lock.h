#pragma once
// At most one job works on an output at a time. The lock is a file held by flock(), which the kernel releases when the
// process dies, however it dies; the file's text tells a refused second job who holds it. On a file system without locks it
// is a second file, PATH.holder, that only one process can create (core/exclusive_file.h): after a job that was killed the
// next has to wait for half a minute.

#include "aimerge/core/exclusive_file.h"
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
    ///         RuntimeFault when the file cannot be made
    static JobLock acquire(const std::filesystem::path& path, const std::string& command);

    /// nullopt when another process has the lock. @throws RuntimeFault when the file cannot be made
    static std::optional<JobLock> tryAcquire(const std::filesystem::path& path, const std::string& command);

    /// "host n1, pid 7, since ..., Slurm job 42 (aimerge merge ...)": whoever has the lock at this path
    static std::string holderOf(const std::filesystem::path& path);

    JobLock(JobLock&&) noexcept = default;
    JobLock& operator=(JobLock&&) = delete;
    ~JobLock();

private:
    explicit JobLock(File file, std::optional<ExclusiveFile> holder = {})
        : file_(std::move(file)), holder_(std::move(holder)) {}
    static std::optional<JobLock> withoutLocks(File file, const std::string& text);

    File file_;
    std::optional<ExclusiveFile> holder_;  // where the file system has no locks
};

}  // namespace aimerge
