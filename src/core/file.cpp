#include "aimerge/core/file.h"

#include "aimerge/core/error.h"
#include "aimerge/core/host_name.h"
#include "aimerge/core/read_ahead.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace aimerge {
namespace {

// The kernel moves at most 0x7ffff000 bytes per call.
constexpr std::size_t kLargestTransfer = std::size_t{1} << 30;

std::string errorText(int error) {
    return std::generic_category().message(error);
}

/// What to do about a failed write, where there is something to do.
std::string_view remedyOf(int error) {
    if (error == ENOSPC) return "; free space there or choose an output folder on another disk, then run again";
    if (error == EDQUOT)
        return "; the disk quota is used up: free space there or choose an output folder elsewhere, then run again";
    if (error == EFBIG) return "; the file system or the limit `ulimit -f` does not allow so large a file";
    return "";
}

struct stat statusOf(int descriptor, const std::filesystem::path& path) {
    struct stat status {};
    if (::fstat(descriptor, &status) != 0) throw InputError("{}: cannot be examined: {}", path.string(), errorText(errno));
    return status;
}

}  // namespace

File File::openForReading(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would wait for a writer
    if (descriptor < 0) {
        if (errno == ENOENT) throw InputError("{}: the file does not exist", path.string());
        throw InputError("{}: cannot be opened for reading: {}", path.string(), errorText(errno));
    }
    File file(descriptor, path);
    const mode_t mode = statusOf(descriptor, path).st_mode;
    if (S_ISDIR(mode)) throw InputError("{}: is a folder, a file was expected", path.string());
    if (!S_ISREG(mode)) throw InputError("{}: is a pipe or a device, a file was expected", path.string());
    return file;
}

File File::openForWriting(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor < 0)
        throw RuntimeFault("{}: cannot be opened for writing: {}{}", path.string(), errorText(errno), remedyOf(errno));
    return File(descriptor, path);
}

File::~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

File::File(File&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}

File& File::operator=(File&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    std::swap(path_, other.path_);
    return *this;
}

std::uint64_t File::size() const {
    return static_cast<std::uint64_t>(statusOf(descriptor_, path_).st_size);
}

void File::readAt(std::uint64_t offset, std::span<std::byte> out) const {
    while (ahead_ != nullptr && !out.empty()) {
        const ReadAhead::Taken taken = ahead_->take(*this, offset, out);
        if (!taken.delivered) readPlainly(offset, out.first(taken.bytes));
        out = out.subspan(taken.bytes);
        offset += taken.bytes;
    }
    readPlainly(offset, out);
}

void File::readPlainly(std::uint64_t offset, std::span<std::byte> out) const {
    while (!out.empty()) {
        const ssize_t got =
            ::pread(descriptor_, out.data(), std::min(out.size(), kLargestTransfer), static_cast<off_t>(offset));
        if (got < 0) {
            if (errno == EINTR) continue;
            throw InputError("{}: reading {} bytes at offset {} failed: {}", path_.string(), out.size(), offset,
                             errorText(errno));
        }
        if (got == 0)
            throw InputError("{}: {} bytes are missing at offset {}, the file has {} bytes; the file was probably cut short",
                             path_.string(), out.size(), offset, size());
        out = out.subspan(static_cast<std::size_t>(got));
        offset += static_cast<std::uint64_t>(got);
    }
}

void File::startReading(ByteRange range) const {
    // One call reads no more than the device reads ahead, which is 128 KiB where nobody changed it.
    constexpr std::uint64_t kMostAtOnce = std::uint64_t{128} << 10;
    for (std::uint64_t begin = range.begin; begin < range.end; begin += kMostAtOnce) {
        const std::uint64_t bytes = std::min(kMostAtOnce, range.end - begin);
        // A hint only, as in startWriteback(): read errors surface in readAt().
        static_cast<void>(
            ::posix_fadvise(descriptor_, static_cast<off_t>(begin), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED));
    }
}

void File::writeAt(std::uint64_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t put =
            ::pwrite(descriptor_, bytes.data(), std::min(bytes.size(), kLargestTransfer), static_cast<off_t>(offset));
        if (put < 0) {
            if (errno == EINTR) continue;
            throw RuntimeFault("{}: writing {} bytes at offset {} failed: {}{}", path_.string(), bytes.size(), offset,
                               errorText(errno), remedyOf(errno));
        }
        bytes = bytes.subspan(static_cast<std::size_t>(put));
        offset += static_cast<std::uint64_t>(put);
    }
}

void File::append(std::string_view text) {
    writeAt(size(), std::as_bytes(std::span(text)));
}

void File::resize(std::uint64_t bytes) {
    if (::ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0)
        throw RuntimeFault("{}: setting the size to {} bytes failed: {}{}", path_.string(), bytes, errorText(errno),
                           remedyOf(errno));
}

void File::startWriteback(ByteRange range) {
    if (range.size() == 0) return;  // 0 bytes would mean "to the end of the file"
    const int result = ::sync_file_range(descriptor_, static_cast<off_t>(range.begin), static_cast<off_t>(range.size()),
                                         SYNC_FILE_RANGE_WRITE);
    // A hint only: file systems and kernels without the call are as good, and write errors surface in sync().
    static_cast<void>(result);
}

void File::sync() {
    while (::fsync(descriptor_) != 0) {
        if (errno == EINTR) continue;
        throw RuntimeFault("{}: forcing the {} bytes to disk failed: {}{}", path_.string(), size(), errorText(errno),
                           remedyOf(errno));
    }
}

bool isReadable(const std::filesystem::path& path) {
    return ::access(path.c_str(), R_OK) == 0;
}

std::string readTextFile(const std::filesystem::path& path, std::uint64_t limit) {
    const File file = File::openForReading(path);
    const std::uint64_t bytes = file.size();
    if (bytes > limit) throw InputError("{}: has {} bytes, more than the {} allowed here", path.string(), bytes, limit);
    std::string text(bytes, '\0');
    file.readAt(0, std::as_writable_bytes(std::span(text)));
    return text;
}

void replaceFile(const std::filesystem::path& path, const std::function<void(File&)>& write) {
    const std::filesystem::path temporary =
        path.parent_path() / fmt::format(".{}.{}-{}.tmp", path.filename().string(), hostName(), ::getpid());
    try {
        File file = File::openForWriting(temporary);
        file.resize(0);
        write(file);
        file.sync();
        if (::rename(temporary.c_str(), path.c_str()) != 0)
            throw RuntimeFault("{}: renaming {} to it failed: {}", path.string(), temporary.string(), errorText(errno));
    } catch (const Error&) {
        ::unlink(temporary.c_str());
        throw;
    }
    syncDirectory(path.parent_path());
}

void writeTextFile(const std::filesystem::path& path, std::string_view text) {
    replaceFile(path, [text](File& file) { file.append(text); });
}

void syncDirectory(const std::filesystem::path& directory) {
    const std::filesystem::path folder = directory.empty() ? std::filesystem::path(".") : directory;
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw RuntimeFault("{}: the folder cannot be opened: {}", folder.string(), errorText(errno));
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    // Some network file systems have no fsync of a folder (EINVAL); their renames are durable by themselves.
    if (result != 0 && error != EINVAL)
        throw RuntimeFault("{}: forcing the folder to disk failed: {}{}", folder.string(), errorText(error),
                           remedyOf(error));
}

}  // namespace aimerge
