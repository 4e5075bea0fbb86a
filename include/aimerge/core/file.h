#pragma once
// Owners of file descriptors and mappings, and the few file operations the product needs. All are local and blocking.
// Reading errors are InputError (they concern what the user gave), writing errors RuntimeFault; both name the path.

#include "aimerge/core/byte_range.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace aimerge {

class ReadAhead;

/// Move-only owner of a file descriptor. Positional calls are thread-safe.
class File {
public:
    static File openForReading(const std::filesystem::path& path);
    /// Creates the file or opens it as it is: existing contents stay.
    static File openForWriting(const std::filesystem::path& path);

    File() = default;
    ~File();
    File(File&& other) noexcept;
    File& operator=(File&& other) noexcept;

    const std::filesystem::path& path() const { return path_; }
    int descriptor() const { return descriptor_; }
    std::uint64_t size() const;

    /// Reads exactly out.size() bytes; a short file is an InputError that says how many bytes are missing.
    void readAt(std::uint64_t offset, std::span<std::byte> out) const;
    /// Lets readAt() take what this object has read ahead; null: no longer. Called by the object itself, while nobody reads.
    void readThrough(ReadAhead* ahead) const { ahead_ = ahead; }
    /// Asks the kernel to bring the range into the page cache, without waiting: a later readAt() then has less to wait for.
    void startReading(ByteRange range) const;
    void writeAt(std::uint64_t offset, std::span<const std::byte> bytes);
    void append(std::string_view text);
    void resize(std::uint64_t bytes);
    /// Asks the kernel to begin writing the range back, without waiting: a later sync() then has less to do.
    void startWriteback(ByteRange range);
    void sync();

private:
    File(int descriptor, std::filesystem::path path) : descriptor_(descriptor), path_(std::move(path)) {}
    void readPlainly(std::uint64_t offset, std::span<std::byte> out) const;

    int descriptor_ = -1;
    std::filesystem::path path_;
    mutable ReadAhead* ahead_ = nullptr;
};

/// False also where a folder on the way may not be entered.
bool isReadable(const std::filesystem::path& path);

/// The whole file; longer than `limit` bytes is an InputError.
std::string readTextFile(const std::filesystem::path& path, std::uint64_t limit = std::uint64_t{1} << 30);

/// Has a sibling temporary file, which is empty, written, syncs it and renames it over `path`.
void replaceFile(const std::filesystem::path& path, const std::function<void(File&)>& write);

/// Writes the file with this text.
void writeTextFile(const std::filesystem::path& path, std::string_view text);

void syncDirectory(const std::filesystem::path& directory);

}  // namespace aimerge
