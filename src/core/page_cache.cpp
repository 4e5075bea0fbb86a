#include "core/page_cache.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstddef>

namespace aimerge {
namespace {

/// A page of so many bytes is looked at: files come into the cache, and go, in stretches of this size at least.
constexpr std::uint64_t kSampled = std::uint64_t{256} << 10;

/// To all others mincore() says that everything is in memory.
bool mayAsk(const File& file) {
    struct stat status {};
    if (::fstat(file.descriptor(), &status) != 0) return false;
    return status.st_uid == ::geteuid() || ::access(file.path().c_str(), W_OK) == 0;
}

}  // namespace

InPageCache inPageCache(const File& file, ByteRange bytes) {
    if (bytes.size() == 0 || !mayAsk(file)) return InPageCache::Unknown;
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t begin = bytes.begin / page * page, length = bytes.end - begin;
    // Nothing is read through the mapping, so a file that is cut short meanwhile does no harm.
    void* const mapping = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, file.descriptor(), static_cast<off_t>(begin));
    if (mapping == MAP_FAILED) return InPageCache::Unknown;
    const auto isThere = [&](std::uint64_t offset) {
        unsigned char flags = 0;
        const bool isTold = ::mincore(static_cast<std::byte*>(mapping) + offset / page * page, 1, &flags) == 0;
        return isTold && (flags & 1) != 0;
    };
    bool isWhole = isThere(length - 1);
    for (std::uint64_t offset = 0; isWhole && offset < length; offset += kSampled) isWhole = isThere(offset);
    ::munmap(mapping, length);
    return isWhole ? InPageCache::Yes : InPageCache::No;
}

bool livesInMemory(const File& file) {
    struct statfs status {};
    return ::fstatfs(file.descriptor(), &status) == 0 && (status.f_type == TMPFS_MAGIC || status.f_type == RAMFS_MAGIC);
}

}  // namespace aimerge
