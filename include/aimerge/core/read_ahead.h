#pragma once
// Reads files ahead of whoever reads them, in the order that is given: storage is as fast as it can be only with many large
// requests on their way, and the threads that compute have one each. Files stay what is read (File::readAt); where a
// ReadAhead has the bytes, it hands them out. Values and errors are those of reading without it: what could not be read
// ahead is read when it is needed.
//
// Requests are calls of pread by threads of their own, because io_uring is no faster with requests of this size, and is
// refused in most containers (docs/architecture.md).

#include "aimerge/core/byte_range.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace aimerge {

class File;

/// What is read at a time, but for the ends of files and tensors.
inline constexpr std::uint64_t kReadAheadPieceBytes = std::uint64_t{4} << 20;

/// Memory to read ahead in, where no plan says another one.
inline constexpr std::uint64_t kReadAheadBytes = std::uint64_t{128} << 20;

/// The part of so much memory that is filled ahead. The rest is left to readers that come before it.
std::uint64_t filledAhead(std::uint64_t bytes);

/// How often the bytes will be read, and where they are until then. What comes from memory is read past the page cache where
/// the file system allows that.
enum class Reading {
    Once,     // in memory until all of them have been handed out
    Kept,     // several times or in any order: in memory until they are forgotten, or to be read but once more
    Repeated  // likewise, but in the page cache
};

/// Bytes that will be read, at most kReadAheadPieceBytes of them.
struct PieceAhead {
    const File* file = nullptr;
    ByteRange bytes;
    Reading reading = Reading::Once;
};

/// The range in pieces, appended.
void addPieces(std::vector<PieceAhead>& pieces, const File& file, ByteRange bytes, Reading reading);

/// Those that stand in several pieces count once, also where a file has been opened several times.
std::uint64_t distinctBytes(std::span<const PieceAhead> pieces);

class ReadAhead {
public:
    /// Begins to read. What is in the page cache already is left to File::readAt. Bytes that stand in several pieces are read
    /// ahead for the first; they count as read repeatedly, unless they are kept. Files are told apart by what they are on
    /// the disk.
    /// @param pieces in the order of their use; their files stay where they are as long as this object lives, and have no
    ///        other ReadAhead
    /// @param bytes of memory; 0: nothing is read ahead
    ReadAhead(const std::vector<PieceAhead>& pieces, std::uint64_t bytes);
    ~ReadAhead();
    ReadAhead(const ReadAhead&) = delete;
    ReadAhead& operator=(const ReadAhead&) = delete;

    /// Pieces number `first` to `end` - 1 will be read once more: what is kept of them leaves memory when it has been.
    /// Thread-safe; nobody reads of them meanwhile.
    void readOnceMore(std::size_t first, std::size_t end);

    /// Pieces number `first` to `end` - 1 are not needed any more, whether they have been read or not: they leave memory,
    /// and the page cache if they came there by this. Thread-safe; nobody reads of them meanwhile.
    void forget(std::size_t first, std::size_t end);

    /// File::readAt's: the next bytes at `offset`, no more than out.size(). Waits for what is on its way. Thread-safe.
    struct Taken {
        std::size_t bytes = 0;
        bool delivered = false;  // false: to be read from the file
    };
    Taken take(const File& file, std::uint64_t offset, std::span<std::byte> out);

    /// Bytes read ahead so far: past the page cache, and through it. The others were in it, or were read by their readers.
    std::uint64_t directBytes() const;
    std::uint64_t cachedBytes() const;

private:
    struct Shared;
    std::unique_ptr<Shared> shared_;
};

}  // namespace aimerge
