#include "aimerge/output/job_lock.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"
#include "aimerge/core/host_name.h"
#include "aimerge/core/utc_time.h"

#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

namespace aimerge {
namespace {

std::string holderText(const std::string& command) {
    nlohmann::ordered_json holder;
    holder["host"] = hostName();
    holder["pid"] = ::getpid();
    holder["start"] = utcTimeText();
    if (const std::string job = environment::slurmJobId(); !job.empty()) holder["slurm_job"] = job;
    holder["command"] = command;
    return holder.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

/// The file that only one job can create, where the file system has no locks.
std::filesystem::path besidesLock(const std::filesystem::path& path) {
    return path.string() + ".holder";
}

/// False when the path no longer leads to the open file: its holder removed it between our open() and flock().
bool isSameFile(const File& file, const std::filesystem::path& path) {
    struct stat opened {
    }, named{};
    return ::fstat(file.descriptor(), &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
           opened.st_dev == named.st_dev;
}

}  // namespace

std::string JobLock::holderOf(const std::filesystem::path& path) {
    const std::filesystem::path holderFile = besidesLock(path);
    std::string written;
    try {
        written = readTextFile(isReadable(holderFile) ? holderFile : path, 1 << 20);
    } catch (const InputError&) {
        return "one that has just ended";  // and taken the file away
    }
    const auto holder = nlohmann::json::parse(written, nullptr, false);
    if (!holder.is_object()) return "one that has just started";  // and has not written yet
    const auto valueOf = [&](const char* key) {
        const auto found = holder.find(key);
        if (found == holder.end()) return std::string("?");
        return found->is_string() ? found->get<std::string>() : found->dump();
    };
    std::string text = fmt::format("host {}, pid {}, since {}", valueOf("host"), valueOf("pid"), valueOf("start"));
    if (holder.contains("slurm_job")) text += ", Slurm job " + valueOf("slurm_job");
    return fmt::format("{} ({})", text, valueOf("command"));
}

JobLock JobLock::acquire(const std::filesystem::path& path, const std::string& command) {
    if (std::optional<JobLock> lock = tryAcquire(path, command)) return std::move(*lock);
    throw UsageError("{}: another job is writing this output: {}; wait for it, stop it, or choose another --out",
                     path.string(), holderOf(path));
}

std::optional<JobLock> JobLock::tryAcquire(const std::filesystem::path& path, const std::string& command) {
    for (;;) {
        File file = File::openForWriting(path);
        if (::flock(file.descriptor(), LOCK_EX | LOCK_NB) != 0) {
            if (errno == EINTR) continue;
            if (errno == EWOULDBLOCK) return std::nullopt;
            if (meansNoLocks(errno)) return withoutLocks(std::move(file), holderText(command));
            throw RuntimeFault("{}: cannot lock: {}", path.string(), std::strerror(errno));
        }
        if (!isSameFile(file, path)) continue;
        JobLock lock(std::move(file));  // removes the file when it cannot be written
        const std::string text = holderText(command);
        lock.file_.resize(0);
        lock.file_.writeAt(0, std::as_bytes(std::span(text)));
        return std::optional<JobLock>(std::move(lock));
    }
}

std::optional<JobLock> JobLock::withoutLocks(File file, const std::string& text) {
    static std::once_flag said;
    std::call_once(said, [&] {
        spdlog::warn(
            "{}: the file system has no locks; other jobs are kept out by a file that only one can create, which counts for "
            "{} s "
            "after a job that was killed",
            file.path().parent_path().string(), ExclusiveFile::kDeadAfter.count());
    });
    std::optional<ExclusiveFile> holder = ExclusiveFile::tryCreate(besidesLock(file.path()), text);
    if (!holder) return std::nullopt;
    return std::optional<JobLock>(JobLock(std::move(file), std::move(holder)));
}

JobLock::~JobLock() {
    // Removed before it is released: whoever opened the old file finds another one at its path and tries again.
    if (file_.descriptor() >= 0) ::unlink(file_.path().c_str());
}

}  // namespace aimerge
