#pragma once
// A lock for file systems without locks (Lustre mounted without `-o flock`, DVS, NFS without a lock daemon): a file that
// only one process can create. It holds a text about its holder, and its modification time is a sign of life: a file that
// was not touched for some time is one whose holder died.

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace aimerge {

/// True for the errors of flock() that mean that the file system has no locks.
bool meansNoLocks(int error);

/// Held, with its file, as long as this object lives.
class ExclusiveFile {
public:
    static constexpr std::chrono::seconds kBetweenSigns{5};
    /// Without a sign for so long, by the clock of the file system, the holder counts as dead.
    static constexpr std::chrono::seconds kDeadAfter{30};

    /// Never waits. nullopt when another process holds the file, or died less than kDeadAfter ago.
    /// @throws RuntimeFault when the file can be neither made nor looked at
    static std::optional<ExclusiveFile> tryCreate(const std::filesystem::path& path, const std::string& text);

    ExclusiveFile(ExclusiveFile&& other) noexcept;
    ExclusiveFile& operator=(ExclusiveFile&&) = delete;
    ~ExclusiveFile();

private:
    struct SignsOfLife;
    explicit ExclusiveFile(std::filesystem::path path);

    std::filesystem::path path_;  // empty when moved from
    std::unique_ptr<SignsOfLife> signs_;
};

}  // namespace aimerge
