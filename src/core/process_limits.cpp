#include "aimerge/core/process_limits.h"

#include "aimerge/core/error.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

std::string firstLine(const fs::path& file) {
    std::string line;
    std::getline(std::ifstream(file) >> std::ws, line);
    return line;
}

/// Empty for "max", for what is no number, and for a file that is not there.
template <typename Number>
std::optional<Number> numberIn(const std::string& text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end == text.data()) return std::nullopt;
    return value;
}

/// The value of a key in a file of lines "key value".
std::uint64_t valueIn(const fs::path& file, const std::string& key) {
    std::ifstream lines(file);
    std::uint64_t value = 0;
    for (std::string found; lines >> found >> value;)
        if (found == key) return value;
    return 0;
}

template <typename Value>
void lower(std::optional<Value>& least, Value value) {
    least = least ? std::min(*least, value) : value;
}

}  // namespace

std::vector<int> usableProcessors() {
    for (int capacity = CPU_SETSIZE; capacity <= (1 << 20); capacity *= 2) {
        cpu_set_t* set = CPU_ALLOC(capacity);
        if (set == nullptr) break;
        const std::size_t bytes = CPU_ALLOC_SIZE(capacity);
        const bool isKnown = ::sched_getaffinity(0, bytes, set) == 0;
        const bool isTooSmall = !isKnown && errno == EINVAL;
        std::vector<int> processors;
        for (int number = 0; isKnown && number < capacity; ++number)
            if (CPU_ISSET_S(number, bytes, set)) processors.push_back(number);
        CPU_FREE(set);
        if (!processors.empty()) return processors;
        if (!isTooSmall) break;
    }
    return {0};
}

/// The groups whose limits a controller applies, from this process's own up to the root.
struct ControlGroups::Hierarchy {
    bool isVersion1 = false;
    std::vector<fs::path> groups;
};

ControlGroups::Hierarchy ControlGroups::hierarchyOf(const std::string& controller) const {
    // Lines are "4:cpu,cpuacct:/path" (version 1) and "0::/path" (version 2); a controller belongs to one of them.
    std::ifstream lines(root_ / "proc/self/cgroup");
    Hierarchy hierarchy;
    fs::path own;
    const fs::path mounts = root_ / "sys/fs/cgroup";
    fs::path mount = fs::exists(mounts / "unified") ? mounts / "unified" : mounts;
    for (std::string line; std::getline(lines, line);) {
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
        const bool isOwner = ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
        if (isOwner) {
            hierarchy.isVersion1 = true;
            mount = fs::exists(mounts / controllers) ? mounts / controllers : mounts / controller;
        }
        if (isOwner || (controllers.empty() && !hierarchy.isVersion1)) own = fs::path(path).relative_path();
    }
    // A container without a cgroup namespace sees its group as the root of the mount, and the host's path of it.
    if (!fs::exists(mount / own)) own.clear();
    for (;; own = own.parent_path()) {
        hierarchy.groups.push_back(own.empty() ? mount : mount / own);
        if (own.empty()) return hierarchy;
    }
}

std::optional<double> ControlGroups::processors() const {
    const Hierarchy hierarchy = hierarchyOf("cpu");
    std::optional<double> least;
    for (const fs::path& group : hierarchy.groups) {
        std::string quota, period;
        if (hierarchy.isVersion1) {
            quota = firstLine(group / "cpu.cfs_quota_us");
            period = firstLine(group / "cpu.cfs_period_us");
        } else {
            std::istringstream(firstLine(group / "cpu.max")) >> quota >> period;
        }
        const auto time = numberIn<double>(quota), of = numberIn<double>(period);
        if (time && of && *time > 0 && *of > 0) lower(least, *time / *of);
    }
    return least;
}

std::optional<std::uint64_t> ControlGroups::freeMemory() const {
    constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 60;  // version 1 writes the largest number of pages
    const Hierarchy hierarchy = hierarchyOf("memory");
    const bool isVersion1 = hierarchy.isVersion1;
    std::optional<std::uint64_t> least;
    for (const fs::path& group : hierarchy.groups) {
        const auto limit = numberIn<std::uint64_t>(firstLine(group / (isVersion1 ? "memory.limit_in_bytes" : "memory.max")));
        const auto used =
            numberIn<std::uint64_t>(firstLine(group / (isVersion1 ? "memory.usage_in_bytes" : "memory.current")));
        if (!limit || !used || *limit >= kNoLimit) continue;
        const std::uint64_t files = valueIn(group / "memory.stat", isVersion1 ? "total_inactive_file" : "inactive_file");
        const std::uint64_t taken = *used - std::min(*used, files);
        lower(least, *limit - std::min(*limit, taken));
    }
    return least;
}

std::uint64_t availableMemory() {
    std::ifstream meminfo("/proc/meminfo");
    for (std::string key; meminfo >> key; meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n')) {
        std::uint64_t kibibytes = 0;
        if (key != "MemAvailable:" || !(meminfo >> kibibytes)) continue;
        return std::min(kibibytes << 10, ControlGroups().freeMemory().value_or(std::numeric_limits<std::uint64_t>::max()));
    }
    throw RuntimeFault("/proc/meminfo: has no MemAvailable; give --memory-limit");
}

}  // namespace aimerge
