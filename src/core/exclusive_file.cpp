#include "aimerge/core/exclusive_file.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/host_name.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace aimerge {
namespace {

namespace fs = std::filesystem;

constexpr int kNoLocksInKernel = 524;  // ENOTSUPP, which DVS lets through and <cerrno> does not have

/// A name that no other process takes.
fs::path besides(const fs::path& path, const char* what) {
    static std::atomic<int> number = 0;
    return path.string() + fmt::format(".{}-{}-{}-{}", what, hostName(), ::getpid(), ++number);
}

/// Now, by the clock that gives files their times: machines may be hours apart.
std::optional<struct timespec> timeOfFileSystem(const fs::path& path) {
    const fs::path probe = besides(path, "now");
    struct stat status {};
    const int descriptor = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0) return std::nullopt;
    const bool known = ::write(descriptor, "\n", 1) == 1 && ::fstat(descriptor, &status) == 0;
    ::close(descriptor);
    ::unlink(probe.c_str());
    return known ? std::optional(status.st_mtim) : std::nullopt;
}

bool isDead(const struct stat& status, const fs::path& path) {
    const auto now = timeOfFileSystem(path);
    return now && now->tv_sec - status.st_mtim.tv_sec > ExclusiveFile::kDeadAfter.count();
}

/// Takes a dead holder's file away. Of several that try, renaming lets one succeed; should it have caught the file of
/// somebody who was faster in the meantime, it gives that back.
void bury(const fs::path& path, const struct stat& dead) {
    const fs::path grave = besides(path, "dead");
    if (::rename(path.c_str(), grave.c_str()) != 0) return;
    struct stat buried {};
    const bool isTheDead =
        ::stat(grave.c_str(), &buried) == 0 && buried.st_ino == dead.st_ino && buried.st_mtim.tv_sec == dead.st_mtim.tv_sec;
    if (!isTheDead) ::link(grave.c_str(), path.c_str());
    ::unlink(grave.c_str());
}

}  // namespace

bool meansNoLocks(int error) {
    return error == ENOSYS || error == ENOLCK || error == ENOTSUP || error == EOPNOTSUPP || error == kNoLocksInKernel;
}

/// Touches the file until it goes.
struct ExclusiveFile::SignsOfLife {
    explicit SignsOfLife(fs::path path) : path_(std::move(path)), thread_([this] { run(); }) {}
    SignsOfLife(const SignsOfLife&) = delete;
    SignsOfLife& operator=(const SignsOfLife&) = delete;
    ~SignsOfLife() {
        {
            const std::scoped_lock lock(mutex_);
            ended_ = true;
        }
        wake_.notify_one();
        thread_.join();
    }

private:
    void run() {
        std::unique_lock lock(mutex_);
        while (!wake_.wait_for(lock, kBetweenSigns, [this] { return ended_; }))
            ::utimensat(AT_FDCWD, path_.c_str(), nullptr, 0);
    }

    fs::path path_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool ended_ = false;
    std::thread thread_;  // last: it uses the others
};

std::optional<ExclusiveFile> ExclusiveFile::tryCreate(const fs::path& path, const std::string& text) {
    for (bool mayBury = true;; mayBury = false) {
        const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0) {
            ::close(descriptor);
            ExclusiveFile created(path);
            File::openForWriting(path).append(text);
            return std::optional<ExclusiveFile>(std::move(created));
        }
        struct stat status {};
        if (errno != EEXIST)
            throw RuntimeFault("{}: cannot be created: {}", path.string(), std::generic_category().message(errno));
        if (::stat(path.c_str(), &status) != 0) continue;  // its holder has just ended
        if (!mayBury || !isDead(status, path)) return std::nullopt;
        bury(path, status);
    }
}

ExclusiveFile::ExclusiveFile(fs::path path) : path_(std::move(path)), signs_(std::make_unique<SignsOfLife>(path_)) {}

ExclusiveFile::ExclusiveFile(ExclusiveFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), signs_(std::move(other.signs_)) {}

ExclusiveFile::~ExclusiveFile() {
    if (path_.empty()) return;
    signs_.reset();
    ::unlink(path_.c_str());
}

}  // namespace aimerge
