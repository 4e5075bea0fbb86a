#pragma once
// What of its machine a process may use: processors and memory. Containers and job schedulers give it less than there is, by
// affinity masks and control groups (cgroups, versions 1 and 2).

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace aimerge {

/// Numbers of the hardware threads that this process may run on (its affinity mask), ascending; at least one.
std::vector<int> usableProcessors();

/// The limits of this process's control groups, each the least of its own group and those above.
class ControlGroups {
public:
    /// @param root folder with proc and sys; another one than / is for tests
    explicit ControlGroups(std::filesystem::path root = "/") : root_(std::move(root)) {}

    /// Processors' worth of time that all processes of the group have together, such as 2.5. Empty: no limit.
    std::optional<double> processors() const;

    /// Bytes that its processes may still take. Contents of files in the page cache, which the kernel drops, count as free.
    /// Empty: no limit.
    std::optional<std::uint64_t> freeMemory() const;

private:
    struct Hierarchy;
    Hierarchy hierarchyOf(const std::string& controller) const;

    std::filesystem::path root_;
};

/// Bytes that this machine could give this process now without swapping; files in memory (tmpfs) are taken.
/// @throws RuntimeFault when the kernel does not say
std::uint64_t availableMemory();

}  // namespace aimerge
