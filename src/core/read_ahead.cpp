#include "aimerge/core/read_ahead.h"

#include "aimerge/core/file.h"
#include "core/page_cache.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

namespace aimerge {
namespace {

/// Requests on their way at once. A virtual disk of 1.2 GB/s has its rate from four on, an array or a parallel file system
/// from as many as it has disks.
constexpr std::uint64_t kMostRequests = 16;

/// What O_DIRECT wants places in files and in memory to be multiples of, nearly everywhere.
constexpr std::uint64_t kAlignment = 4096;

/// Pages of its own, which go back to the system at once: from malloc by many threads they would leave holes.
class Buffer {
public:
    Buffer() = default;
    /// Empty where there is no memory.
    explicit Buffer(std::uint64_t bytes) : bytes_(bytes) {
        void* const pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        data_ = pages == MAP_FAILED ? nullptr : static_cast<std::byte*>(pages);
    }
    ~Buffer() {
        if (data_ != nullptr) ::munmap(data_, bytes_);
    }
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }

    explicit operator bool() const { return data_ != nullptr; }
    std::byte* data() const { return data_; }
    std::uint64_t bytes() const { return bytes_; }

private:
    std::byte* data_ = nullptr;
    std::uint64_t bytes_ = 0;
};

/// Buffers of whole pieces are used again: what is new costs a page fault for every 4 KiB.
class Buffers {
public:
    /// What a buffer for so many bytes takes.
    static std::uint64_t roomFor(std::uint64_t bytes) { return bytes <= kWhole / 2 ? bytes : kWhole; }

    Buffer take(std::uint64_t bytes) {
        if (roomFor(bytes) < kWhole) return Buffer(bytes);
        const std::lock_guard lock(mutex_);
        if (free_.empty()) return Buffer(kWhole);
        Buffer buffer = std::move(free_.back());
        free_.pop_back();
        return buffer;
    }

    void giveBack(Buffer buffer) {
        if (buffer.bytes() < kWhole) return;
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(buffer));
    }

private:
    static constexpr std::uint64_t kWhole = kReadAheadPieceBytes + 2 * kAlignment;

    std::mutex mutex_;
    std::vector<Buffer> free_;
};

/// A file that is open already, opened once more: past the page cache, or through it without the kernel's own reading ahead.
class Descriptor {
public:
    Descriptor() = default;
    ~Descriptor() { close(); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    /// Empty where it cannot be opened.
    std::optional<int> open(const File& file, int flags) {
        const std::lock_guard lock(mutex_);
        if (number_ < 0 && !isRefused_) {
            number_ = ::open(("/proc/self/fd/" + std::to_string(file.descriptor())).c_str(), O_RDONLY | O_CLOEXEC | flags);
            isRefused_ = number_ < 0;
            if (number_ >= 0 && flags == 0) ::posix_fadvise(number_, 0, 0, POSIX_FADV_RANDOM);
        }
        return isRefused_ ? std::nullopt : std::optional(number_);
    }

    void refuse() {
        const std::lock_guard lock(mutex_);
        isRefused_ = true;
    }

    void close() {
        const std::lock_guard lock(mutex_);
        if (number_ >= 0) ::close(std::exchange(number_, -1));
    }

private:
    std::mutex mutex_;
    int number_ = -1;
    bool isRefused_ = false;
};

/// Which file on the disk a File is.
class Identities {
public:
    using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device, inode

    Identity of(const File& file) {
        const auto [place, isNew] = known_.try_emplace(&file);
        struct stat status {};
        if (isNew && ::fstat(file.descriptor(), &status) == 0) place->second = {status.st_dev, status.st_ino};
        return place->second;
    }

private:
    std::unordered_map<const File*, Identity> known_;
};

enum class Outcome { Whole, Failed, Misaligned };

/// `wanted` bytes at `offset`; `room` may be asked for, which is a multiple of kAlignment where that matters.
Outcome readWhole(int descriptor, std::uint64_t offset, std::byte* out, std::uint64_t wanted, std::uint64_t room) {
    for (std::uint64_t done = 0; done < wanted;) {
        const ssize_t got = ::pread(descriptor, out + done, room - done, static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EINVAL ? Outcome::Misaligned : Outcome::Failed;
        if (got == 0) return Outcome::Failed;
        done += static_cast<std::uint64_t>(got);
    }
    return Outcome::Whole;
}

enum class State {
    Waiting,
    Reading,
    Ready,  // in its buffer
    Plain   // nothing here: in the page cache, all taken, not to be read, or not needed any more
};

struct WatchedFile {
    std::map<std::uint64_t, std::size_t> pieces;  // by begin
    std::size_t open = 0;                         // pieces that are not forgotten
    Descriptor direct, cached;
};

struct Piece {
    WatchedFile* watched = nullptr;
    const File* file = nullptr;
    ByteRange bytes;
    Reading reading = Reading::Once;
    State state = State::Waiting;
    bool isHeld = false;     // counts as read ahead
    bool isTouched = false;  // somebody has read of it
    bool isForgotten = false;
    bool isBrought = false;   // into the page cache, by us
    int copying = 0;          // threads that take of it now
    std::uint64_t taken = 0;  // bytes
    Buffer buffer;

    std::uint64_t alignedBegin() const { return bytes.begin / kAlignment * kAlignment; }
    std::uint64_t bufferBytes() const { return (bytes.end + kAlignment - 1) / kAlignment * kAlignment - alignedBegin(); }
    std::uint64_t room() const { return Buffers::roomFor(bufferBytes()); }
};

}  // namespace

void addPieces(std::vector<PieceAhead>& pieces, const File& file, ByteRange bytes, Reading reading) {
    for (std::uint64_t begin = bytes.begin; begin < bytes.end; begin += kReadAheadPieceBytes)
        pieces.push_back({&file, {begin, std::min(begin + kReadAheadPieceBytes, bytes.end)}, reading});
}

std::uint64_t filledAhead(std::uint64_t bytes) {
    return bytes - std::min(bytes / 4, kMostRequests * kReadAheadPieceBytes);
}

std::uint64_t distinctBytes(std::span<const PieceAhead> pieces) {
    Identities identities;
    std::set<std::pair<Identities::Identity, std::uint64_t>> known;
    std::uint64_t bytes = 0;
    for (const PieceAhead& piece : pieces)
        if (known.emplace(identities.of(*piece.file), piece.bytes.begin).second) bytes += piece.bytes.size();
    return bytes;
}

struct ReadAhead::Shared {
    using Lock = std::unique_lock<std::mutex>;

    explicit Shared(std::uint64_t bytes) : limit(bytes) {}

    void add(const PieceAhead& added) {
        WatchedFile& file = watched[identities.of(*added.file)];
        files[added.file] = &file;
        const auto [place, isNew] = file.pieces.emplace(added.bytes.begin, pieces.size());
        Piece& piece = pieces.emplace_back();
        piece.watched = &file;
        piece.file = added.file;
        piece.bytes = added.bytes;
        piece.reading = added.reading;
        ++file.open;
        if (isNew) return;
        piece.state = State::Plain;
        if (pieces[place->second].reading == Reading::Once) pieces[place->second].reading = Reading::Repeated;
    }

    void hold(Piece& piece) {
        piece.isHeld = true;
        held += piece.room();
    }

    void letGo(Piece& piece) {
        if (piece.buffer) buffers.giveBack(std::exchange(piece.buffer, {}));
        if (std::exchange(piece.isHeld, false)) held -= piece.room();
        piece.state = State::Plain;
        room.notify_one();
    }

    void readOn() {
        Lock lock(mutex);
        while (!isStopping) {
            while (next < pieces.size() && pieces[next].state != State::Waiting) ++next;
            if (next == pieces.size()) return;
            if (held > 0 && held + pieces[next].room() > filledAhead(limit))
                room.wait(lock);
            else
                fetch(pieces[next], lock);
        }
    }

    /// @pre it is waiting
    void fetch(Piece& piece, Lock& lock) {
        piece.state = State::Reading;
        hold(piece);
        lock.unlock();
        Buffer buffer = readFrom(piece);
        lock.lock();
        piece.buffer = std::move(buffer);
        piece.state = piece.buffer ? State::Ready : State::Plain;
        if (piece.isForgotten)
            end(piece);
        else if (piece.state == State::Plain && piece.isTouched)
            letGo(piece);
        arrived.notify_all();
    }

    /// Null where there is nothing to hand out: it is in the page cache, or could not be read, which its reader will find.
    Buffer readFrom(Piece& piece) {
        WatchedFile& watched = *piece.watched;
        const InPageCache isThere = inPageCache(*piece.file, piece.bytes);
        if (isThere == InPageCache::Yes) return {};
        Buffer buffer = buffers.take(piece.bufferBytes());
        if (!buffer) return {};
        const std::uint64_t begin = piece.alignedBegin(), before = piece.bytes.begin - begin,
                            wanted = piece.bytes.end - begin;
        Outcome outcome = Outcome::Misaligned;
        if (piece.reading != Reading::Repeated && isThere == InPageCache::No) {
            if (const auto descriptor = watched.direct.open(*piece.file, O_DIRECT))
                outcome = readWhole(*descriptor, begin, buffer.data(), wanted, piece.bufferBytes());
            if (outcome == Outcome::Misaligned) watched.direct.refuse();
            if (outcome == Outcome::Whole) directBytes += piece.bytes.size();
        }
        if (outcome == Outcome::Misaligned) {
            if (const auto descriptor = watched.cached.open(*piece.file, 0))
                outcome = readWhole(*descriptor, piece.bytes.begin, buffer.data() + before, piece.bytes.size(),
                                    piece.bytes.size());
            if (outcome == Outcome::Whole) cachedBytes += piece.bytes.size();
            piece.isBrought = outcome == Outcome::Whole && isThere == InPageCache::No;
        }
        if (outcome == Outcome::Whole && piece.reading != Reading::Repeated) return buffer;
        buffers.giveBack(std::move(buffer));
        return {};
    }

    /// What is forgotten and not on its way.
    void end(Piece& piece) {
        letGo(piece);
        if (--piece.watched->open > 0) return;
        piece.watched->direct.close();
        piece.watched->cached.close();
    }

    void copyOut(Piece& piece, std::uint64_t offset, std::span<std::byte> out, Lock& lock) {
        const std::byte* const from = piece.buffer.data() + (offset - piece.alignedBegin());
        ++piece.copying;
        lock.unlock();
        std::memcpy(out.data(), from, out.size());
        lock.lock();
        piece.taken += out.size();
        --piece.copying;
        if (piece.reading == Reading::Once && piece.copying == 0 && piece.taken >= piece.bytes.size()) letGo(piece);
    }

    const std::uint64_t limit;
    Identities identities;
    std::map<Identities::Identity, WatchedFile> watched;
    std::unordered_map<const File*, WatchedFile*> files;
    std::vector<Piece> pieces;
    Buffers buffers;
    std::atomic<std::uint64_t> directBytes = 0, cachedBytes = 0;
    std::vector<std::thread> threads;

    std::mutex mutex;  // of what follows, and of the pieces' states
    std::condition_variable room, arrived;
    std::size_t next = 0;
    std::uint64_t held = 0;
    bool isStopping = false;
};

ReadAhead::ReadAhead(const std::vector<PieceAhead>& pieces, std::uint64_t bytes) : shared_(std::make_unique<Shared>(bytes)) {
    if (bytes == 0 || pieces.empty()) return;
    shared_->pieces.reserve(pieces.size());
    for (const PieceAhead& piece : pieces) shared_->add(piece);
    if (std::ranges::all_of(shared_->files, [](const auto& file) { return livesInMemory(*file.first); })) return;
    const std::uint64_t requests = std::clamp<std::uint64_t>(bytes / (2 * kReadAheadPieceBytes), 1, kMostRequests);
    try {
        for (std::uint64_t i = 0; i < std::min<std::uint64_t>(requests, pieces.size()); ++i)
            shared_->threads.emplace_back([shared = shared_.get()] { shared->readOn(); });
    } catch (const std::system_error&) {
        // Fewer threads then, or none: whoever needs bytes reads them.
    }
    for (const auto& [file, watched] : shared_->files) file->readThrough(this);
}

ReadAhead::~ReadAhead() {
    for (const auto& [file, watched] : shared_->files) file->readThrough(nullptr);
    {
        const std::lock_guard lock(shared_->mutex);
        shared_->isStopping = true;
    }
    shared_->room.notify_all();
    for (std::thread& thread : shared_->threads) thread.join();
}

void ReadAhead::readOnceMore(std::size_t first, std::size_t end) {
    const std::lock_guard lock(shared_->mutex);
    for (std::size_t i = first; i < std::min(end, shared_->pieces.size()); ++i) {
        Piece& piece = shared_->pieces[i];
        if (piece.reading != Reading::Kept || piece.state == State::Reading) continue;
        piece.reading = Reading::Once;
        piece.taken = 0;
    }
}

void ReadAhead::forget(std::size_t first, std::size_t end) {
    std::vector<const Piece*> brought;
    {
        const std::lock_guard lock(shared_->mutex);
        for (std::size_t i = first; i < std::min(end, shared_->pieces.size()); ++i) {
            Piece& piece = shared_->pieces[i];
            if (std::exchange(piece.isForgotten, true)) continue;
            if (piece.isBrought) brought.push_back(&piece);
            if (piece.state != State::Reading) shared_->end(piece);
        }
    }
    for (const Piece* piece : brought)
        ::posix_fadvise(piece->file->descriptor(), static_cast<off_t>(piece->bytes.begin),
                        static_cast<off_t>(piece->bytes.size()), POSIX_FADV_DONTNEED);
}

ReadAhead::Taken ReadAhead::take(const File& file, std::uint64_t offset, std::span<std::byte> out) {
    const auto watched = shared_->files.find(&file);
    if (watched == shared_->files.end()) return {out.size(), false};
    const auto& places = watched->second->pieces;
    const auto behind = places.upper_bound(offset);
    if (behind == places.begin() || shared_->pieces[std::prev(behind)->second].bytes.end <= offset) {
        const std::uint64_t gap = behind == places.end() ? out.size() : behind->first - offset;
        return {static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), gap)), false};
    }
    Piece& piece = shared_->pieces[std::prev(behind)->second];
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), piece.bytes.end - offset));
    Shared::Lock lock(shared_->mutex);
    if (!std::exchange(piece.isTouched, true) && piece.state == State::Plain) shared_->letGo(piece);
    if (piece.state == State::Waiting) {
        if (shared_->held + piece.room() <= shared_->limit)
            shared_->fetch(piece, lock);
        else
            piece.state = State::Plain;
    }
    shared_->arrived.wait(lock, [&] { return piece.state != State::Reading; });
    if (piece.state != State::Ready) return {size, false};
    shared_->copyOut(piece, offset, out.first(size), lock);
    return {size, true};
}

std::uint64_t ReadAhead::directBytes() const {
    return shared_->directBytes;
}

std::uint64_t ReadAhead::cachedBytes() const {
    return shared_->cachedBytes;
}

}  // namespace aimerge
