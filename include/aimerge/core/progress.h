#pragma once
// Progress of one phase on stderr: a bar on a terminal, whole lines at intervals in a batch log, nothing when asked. Or in a
// function of whoever drives the engine. Rank 0 shows it; the other ranks construct it with ProgressMode::None.

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

namespace aimerge {

enum class ProgressMode { Auto, Bar, Plain, None };

struct ProgressState {
    std::string phase{}, items{};
    std::uint64_t done = 0, total = 0, doneBytes = 0, totalBytes = 0;
    double seconds = 0;  // since the phase began
    bool last = false;

    /// For the last while, by which rate and time left are estimated; with recentSeconds 0, of the whole phase. What lay in
    /// the page cache at the beginning says nothing of the disk.
    std::uint64_t recentDone = 0, recentBytes = 0;
    double recentSeconds = 0;
};

/// Who hears of progress: standard error in one of the modes, or a function. It is called at most ten times a second and at
/// the end of a phase, from any thread, one call at a time, and must not throw.
struct ProgressListener {
    using Function = std::function<void(const ProgressState&)>;

    ProgressListener(ProgressMode shownAs = ProgressMode::None) : mode(shownAs) {}
    ProgressListener(Function function) : call(std::move(function)) {}

    ProgressMode mode = ProgressMode::None;
    Function call;  // in the place of standard error

    bool hears() const { return call || mode != ProgressMode::None; }
};

/// "merge    120/363 tensors   33%   8.1 of 24.2 GB   1.9 GB/s   left 8m30s"; the last one says "took" instead of "left".
std::string progressLine(const ProgressState& state);

class Progress {
public:
    /// @param phase "merge", "calibrate", ...; @param items what `total` counts ("tensors", "blocks")
    /// @param totalBytes bytes to be moved, or 0 when bytes are not shown
    Progress(ProgressListener listener, std::string phase, std::string items, std::uint64_t total, std::uint64_t totalBytes);
    ~Progress();

    /// Thread-safe; cheap enough to call per tile.
    void advance(std::uint64_t items, std::uint64_t bytes);
    /// Prints the final state once.
    void finish();

private:
    struct Sample {
        std::chrono::steady_clock::time_point time;
        std::uint64_t done, bytes;
    };

    void tell(bool last);
    const Sample& sampleBefore(std::chrono::steady_clock::time_point now);

    ProgressListener listener_;
    std::string phase_, items_;
    std::uint64_t total_, totalBytes_, done_ = 0, doneBytes_ = 0;
    std::chrono::steady_clock::time_point start_, lastPrint_;
    std::deque<Sample> samples_;  // one a second, of the last while
    bool finished_ = false;
    std::mutex mutex_;
};

}  // namespace aimerge
